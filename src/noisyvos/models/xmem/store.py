"""A store of memory elements: shared keys, values per group of objects, each element's use."""

import torch
from torch import Tensor

_NEW_LIFE = 1e-7  # makes use / life defined before the first readout


def _without(count: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Return the indices 0..count-1 without start..stop-1; the host waits for nothing."""
    every = torch.arange(count, device=device)
    return torch.cat([every[:start], every[stop:]])


class Store:
    """Elements in order of arrival.

    `fixed` pairs a group's values with the keys they were made with, otherwise with the last keys.
    """

    keys: Tensor  # (1, C, M), as shrinkage (1, 1, M) set by the first `add`
    shrinkage: Tensor
    use: Tensor  # (M,)
    life: Tensor  # (M,)
    selection: Tensor | None = None  # (1, C, M)

    def __init__(self, fixed: bool) -> None:
        self.fixed = fixed
        self.size = 0
        self._next = 0  # serial number of the next element
        self._values: list[Tensor] = []  # per group (objects, C_v, M_g)
        self._serials: list[Tensor] = []  # per group (M_g,), used if `fixed`
        self.serials = torch.empty(0, dtype=torch.long)

    def add(
        self,
        keys: Tensor,
        shrinkage: Tensor,
        selection: Tensor | None,
        values: list[Tensor],
        valid: list[Tensor | None] | None = None,
    ) -> None:
        """Append elements: keys (1, C, m), shrinkage (1, 1, m), selection (1, C, m) or None.

        values: per group (objects, C_v, m), or as many columns as `valid` (m,) bool has true
        entries for the group; None there means all.
        """
        count = keys.shape[2]
        serials = torch.arange(self._next, self._next + count, device=keys.device)
        use, life = keys.new_zeros(count), keys.new_full((count,), _NEW_LIFE)
        if self._next == 0:
            self.keys, self.shrinkage, self.selection = keys, shrinkage, selection
            self.use, self.life, self.serials = use, life, serials
        else:
            self.keys = torch.cat([self.keys, keys], 2)
            self.shrinkage = torch.cat([self.shrinkage, shrinkage], 2)
            if selection is None or self.selection is None:
                self.selection = None
            else:
                self.selection = torch.cat([self.selection, selection], 2)
            self.use = torch.cat([self.use, use])
            self.life = torch.cat([self.life, life])
            self.serials = torch.cat([self.serials, serials])
        for group, value in enumerate(values):
            kept = None if valid is None else valid[group]
            own = serials if kept is None else serials[kept]
            if group == len(self._values):
                self._values.append(value)
                self._serials.append(own)
            else:
                self._values[group] = torch.cat([self._values[group], value], 2)
                self._serials[group] = torch.cat([self._serials[group], own])
        self._next += count
        self.size += count

    def has(self, group: int) -> bool:
        """Return whether the group has any value here."""
        return group < len(self._values) and self._values[group].shape[2] > 0

    def values(self, group: int) -> Tensor:
        """Return the values of a group, (objects, C_v, M_g)."""
        return self._values[group]

    def columns(self, group: int) -> Tensor:
        """Return the indices (M_g,) of the elements that the group's values are paired with."""
        count = self._values[group].shape[2] if group < len(self._values) else 0
        if self.fixed and 0 < count < self.size:
            return torch.isin(self.serials, self._serials[group]).nonzero()[:, 0]
        return torch.arange(self.size - count, self.size, device=self.serials.device)

    def count(self, use: Tensor) -> None:
        """Add one readout's use (size,) to every element."""
        self.use += use
        self.life += 1

    def usage(self) -> Tensor:
        """Return use per readout, (size,)."""
        return self.use / self.life

    def candidates(self, group: int, start: int, stop: int, kept: int) -> tuple[Tensor, Tensor]:
        """Return the group's values among the elements start..stop, and their indices in that
        range.

        kept: elements that stay. As published, a group shorter than the store takes part only if it
        is longer than `kept` and one frame (`start` elements).
        """
        values = self._values[group]
        count = values.shape[2]
        if self.fixed and count < self.size:
            columns = self.columns(group)
            inside = (columns >= start) & (columns < stop)
            return values[..., inside], columns[inside] - start
        if count < self.size and count <= kept + start:
            values = values[..., :0]
        else:
            values = values[..., start : count - kept + start]
        return values, torch.arange(
            stop - start - values.shape[2], stop - start, device=values.device
        )

    def remove(self, start: int, stop: int, kept: int) -> None:
        """Drop the elements start..stop.

        As published, a group's values lose the same range counted from their end.
        """
        device = self.serials.device
        for group, values in enumerate(self._values):
            count = values.shape[2]
            if self.fixed and count < self.size:
                columns = self.columns(group)
                self._keep_values(group, (columns < start) | (columns >= stop))
            elif count >= kept + start:
                self._keep_values(group, _without(count, start, count - kept + start, device))
        self._keep(_without(self.size, start, stop, device))

    def forget(self, limit: int) -> None:
        """Evict the least-used elements until `limit` remain.

        Elements as rarely used as the last evicted one go too.
        """
        excess = self.size - limit
        if excess <= 0:
            return
        usage = self.usage()
        keep = usage > usage.topk(excess, largest=False).values.max()
        for group in range(len(self._values)):
            self._keep_values(group, keep[self.columns(group)])
        self._keep(keep)

    def _keep_values(self, group: int, stay: Tensor) -> None:
        self._values[group] = self._values[group][..., stay]
        self._serials[group] = self._serials[group][stay]

    def _keep(self, keep: Tensor) -> None:
        self.keys, self.shrinkage = self.keys[..., keep], self.shrinkage[..., keep]
        self.selection = None if self.selection is None else self.selection[..., keep]
        self.use, self.life, self.serials = self.use[keep], self.life[keep], self.serials[keep]
        self.size = self.keys.shape[2]
