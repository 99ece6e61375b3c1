"""XMem's working and long-term memory (ECCV 2022, section 3.3): reading, consolidation, potentiation, forgetting.

Objects that appeared in the same frame form a group. Keys are shared; the values of a group cover only the frames since
it appeared. The published code pairs a group's values with the *last* keys, which goes wrong once consolidation has
taken keys out of the middle: the late group's oldest value then meets the key of frame 0. `late_groups="faithful"`
keeps that pairing; `"fixed"` pairs every value with the key it was made with.
"""

import torch
from torch import Tensor

from noisyvos.models.matching import affinity, readout, similarity
from noisyvos.models.xmem.settings import XMemMemory
from noisyvos.models.xmem.store import Store


class Memory:
    """What one video's frames left behind; every tensor has a leading batch axis of one."""

    def __init__(self, settings: XMemMemory, count_usage: bool) -> None:
        self.settings = settings
        self.count_usage = count_usage
        fixed = settings.late_groups == "fixed"
        self.working = Store(fixed)
        self.long_term = Store(fixed)
        self.group_sizes: list[int] = []  # objects of each group, in order of appearance
        self.frame_size = 0  # elements of one frame

    def add(self, key: Tensor, shrinkage: Tensor, selection: Tensor | None, value: Tensor) -> None:
        """Take a frame: key (1, C, hw), shrinkage (1, 1, hw), selection (1, C, hw) or None, value (1, N, C_v, hw).

        Objects beyond those known so far form a new group. A full working memory is condensed afterwards.
        """
        self.frame_size = key.shape[2]
        new = value.shape[1] - sum(self.group_sizes)
        if new:
            self.group_sizes.append(new)
        self.working.add(key, shrinkage, selection, list(value[0].split(self.group_sizes)))
        full = self.settings.max_mid_term_frames * self.frame_size
        if self.settings.enable_long_term and self.working.size >= full:
            if self.count_usage:
                self.long_term.forget(self.settings.max_long_term_elements - self.settings.num_prototypes)
            self._consolidate()

    def read(self, query: Tensor, selection: Tensor | None) -> Tensor:
        """Return what a query (1, C, hw) finds for every object, (1, N, C_v, hw), and count the use of what was read."""
        stores = [store for store in (self.long_term, self.working) if store.size]
        keys = torch.cat([store.keys for store in stores], 2)
        shrinkage = torch.cat([store.shrinkage for store in stores], 2)
        similarities = similarity(keys, shrinkage, query, selection)
        found = []
        for group in range(len(self.group_sizes)):
            values = torch.cat([store.values(group) for store in stores if store.has(group)], 2)
            rows = similarities
            if values.shape[2] != keys.shape[2]:
                offsets = [0, stores[0].size]
                rows = similarities[:, torch.cat([store.columns(group) + offset for store, offset in zip(stores, offsets)])]
            weights = affinity(rows, self.settings.top_k)
            if group == 0:
                self._count(stores, weights)
            found.append(readout(weights, values[None]))
        return torch.cat(found, 1)

    def _count(self, stores: list[Store], weights: Tensor) -> None:
        if self.settings.enable_long_term:
            use = weights.sum(2)[0].split([store.size for store in stores])
            for store, share in zip(stores, use):
                store.count(share)

    def _consolidate(self) -> None:
        """Condense all working frames but the first and the last few into prototypes of the long-term memory."""
        work = self.working
        kept = self.settings.min_mid_term_frames * self.frame_size
        start, stop = self.frame_size, work.size - kept + self.frame_size
        count = min(self.settings.num_prototypes, stop - start)
        chosen = work.usage()[start:stop].topk(count).indices
        keys, shrinkage, selection = work.keys[..., start:stop], work.shrinkage[..., start:stop], work.selection[..., start:stop]
        similarities = similarity(keys, shrinkage, keys[..., chosen], selection[..., chosen])  # (1, candidates, prototypes)
        values, valid = [], []
        for group in range(len(self.group_sizes)):
            candidates, rows = work.candidates(group, start, stop, kept)
            usable = torch.isin(chosen, rows)
            weights = affinity(similarities[:, rows][:, :, usable])
            values.append(readout(weights, candidates[None])[0])
            valid.append(usable)
            if group == 0:
                condensed = readout(weights, shrinkage[:, None])[:, 0]
        prototypes = keys[..., chosen]
        work.remove(start, stop, kept)
        self.long_term.add(prototypes, condensed, None, values, valid)
