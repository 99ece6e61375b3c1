"""XMem's working and long-term memory (ECCV 2022, section 3.3).

Reading, consolidation, potentiation, forgetting. Objects that appeared in the same frame form a
group. Keys are shared; the values of a group cover only the frames since it appeared. The published
code pairs a group's values with the *last* keys. That goes wrong once consolidation has taken keys
out of the middle: the late group's oldest value then meets the key of frame 0.
`late_groups="faithful"` keeps that pairing; `"fixed"` pairs every value with the key it was made
with.
"""

import torch
from torch import Tensor

from noisyvos.models.xmem.reading import (
    GroupValues,
    Readable,
    affinity,
    key_factors,
    read,
    readout,
    similarity,
)
from noisyvos.models.xmem.settings import XMemMemory
from noisyvos.models.xmem.store import Store


class Memory:
    """The memory of one video; every tensor has a leading batch axis of one."""

    def __init__(self, settings: XMemMemory, count_usage: bool) -> None:
        self.settings = settings
        self.count_usage = count_usage
        fixed = settings.late_groups == "fixed"
        self.working = Store(fixed)
        self.long_term = Store(fixed)
        self.group_sizes: list[int] = []  # objects of each group, in order of appearance
        self.frame_size = 0  # elements of one frame
        self._readable: Readable | None = None  # of the present elements, made at the first read

    def add(self, key: Tensor, shrinkage: Tensor, selection: Tensor | None, value: Tensor) -> None:
        """Add a frame: key (1, C, hw), shrinkage (1, 1, hw), selection (1, C, hw), value (1, N,
        C_v, hw).

        Objects beyond those known so far form a new group. A full working memory is condensed
        afterwards; only that needs the selection.
        """
        self._readable = None
        self.frame_size = key.shape[2]
        new = value.shape[1] - sum(self.group_sizes)
        if new:
            self.group_sizes.append(new)
        self.working.add(key, shrinkage, selection, list(value[0].split(self.group_sizes)))
        full = self.settings.max_mid_term_frames * self.frame_size
        if self.settings.enable_long_term and self.working.size >= full:
            if self.count_usage:
                most = self.settings.max_long_term_elements - self.settings.num_prototypes
                self.long_term.forget(most)
            self._consolidate()

    def read(self, query: Tensor, selection: Tensor | None) -> Tensor:
        """Return what a query (1, C, hw) reads for every object, (1, N, C_v, hw).

        Counts the use of what was read.
        """
        if self._readable is None:
            self._readable = self._make_readable()
        found, use = read(self._readable, query, selection, self.settings.top_k)
        if self.settings.enable_long_term:
            stores = self._stores()
            for store, share in zip(stores, use.split([store.size for store in stores])):
                store.count(share)
        parts = [
            each.mT.unflatten(0, (objects, -1))
            for each, objects in zip(found, self.group_sizes, strict=True)
        ]
        return torch.cat(parts)[None]

    def _stores(self) -> list[Store]:
        return [store for store in (self.long_term, self.working) if store.size]

    def _make_readable(self) -> Readable:
        stores = self._stores()
        size = sum(store.size for store in stores)
        keys = torch.cat([store.keys for store in stores], 2)
        shrinkage = torch.cat([store.shrinkage for store in stores], 2)
        groups = []
        for group in range(len(self.group_sizes)):
            rows = torch.cat(
                [store.values(group).flatten(0, 1).mT for store in stores if store.has(group)]
            )
            columns = None
            if len(rows) != size:
                starts = (0, stores[0].size)
                parts = [store.columns(group) + start for store, start in zip(stores, starts)]
                columns = torch.cat(parts)
            groups.append(GroupValues(rows.contiguous(), columns))
        return Readable(key_factors(keys, shrinkage), tuple(groups))

    def _consolidate(self) -> None:
        """Condense all working frames but the first and the last few into prototypes of the
        long-term memory.
        """
        work = self.working
        kept = self.settings.min_mid_term_frames * self.frame_size
        start, stop = self.frame_size, work.size - kept + self.frame_size
        count = min(self.settings.num_prototypes, stop - start)
        chosen = work.usage()[start:stop].topk(count).indices
        assert work.selection is not None  # stored whenever long-term memory is enabled
        keys, shrinkage = work.keys[..., start:stop], work.shrinkage[..., start:stop]
        prototypes, selection = keys[..., chosen], work.selection[..., start:stop][..., chosen]
        # (1, candidates, prototypes)
        similarities = similarity(keys, shrinkage, prototypes, selection)
        values: list[Tensor] = []
        valid: list[Tensor | None] = []
        for group in range(len(self.group_sizes)):
            candidates, rows = work.candidates(group, start, stop, kept)
            if len(rows) == stop - start:  # all of them, which a GPU need not be asked
                usable, own = None, similarities
            else:
                usable = torch.isin(chosen, rows)
                own = similarities[:, rows][:, :, usable]
            weights = affinity(own)
            values.append(readout(weights, candidates[None])[0])
            valid.append(usable)
            if group == 0:
                condensed = readout(weights, shrinkage[:, None])[:, 0]
        work.remove(start, stop, kept)
        self.long_term.add(prototypes, condensed, None, values, valid)
