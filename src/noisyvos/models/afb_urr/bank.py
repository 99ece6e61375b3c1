"""The adaptive feature bank (NeurIPS 2020, section 3.2).

New features are absorbed by similar ones or inserted; a full bank evicts its least-used features.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from noisyvos.models.afb_urr.settings import AFBURRMemory
from noisyvos.models.stm_parts.matching import affinity, piece

SEEN = 1e-3  # weight above which a query position counts as a use of a feature
MOST_USE = 1e5


class FeatureBank:
    """The independent banks of all channels of one video, background first."""

    def __init__(self, channels: int, memory: AFBURRMemory) -> None:
        self.channels = [
            ChannelBank(memory.limit(channels), memory.update_rate, memory.similarity_threshold)
            for _ in range(channels)
        ]

    def start(self, keys: Tensor, values: Tensor, frame: int) -> None:
        """Replace everything by a frame's features: keys (K, C_k, P), values (K, C_v, P).

        No limit applies, as published.
        """
        for bank, key, value in zip(self.channels, keys, values, strict=True):
            bank.start(key, value, frame)

    def read(self, query: Tensor, size: int) -> Tensor:
        """Return what each channel reads at the positions of a query (C_k, P), (K, size, P).

        Counts which features were used.
        """
        return torch.stack([bank.read(query, size) for bank in self.channels])

    def update(
        self, keys: Tensor, values: Tensor, frame: int, restart: Collection[int] = ()
    ) -> None:
        """Add the features of a frame; the channels `restart` forget what they held."""
        for channel, (bank, key, value) in enumerate(zip(self.channels, keys, values, strict=True)):
            if channel in restart:
                bank.start(key, value, frame)
            else:
                bank.update(key, value, frame)

    def sizes(self) -> list[int]:
        """Return the number of features of every channel."""
        return [bank.size for bank in self.channels]


class ChannelBank:
    """The features of one channel.

    Keys (C_k, N), values (C_v, N), the frame at which each was inserted (N,), its use so far (N,).
    """

    keys: Tensor
    values: Tensor
    born: Tensor
    use: Tensor

    def __init__(self, limit: float, update_rate: float, threshold: float) -> None:
        self.limit = limit
        self.rate = update_rate
        self.threshold = threshold
        self.size = 0

    def start(self, keys: Tensor, values: Tensor, frame: int) -> None:
        """Replace everything by keys (C_k, P) and values (C_v, P)."""
        self.keys, self.values = keys.clone(), values.clone()
        self.size = keys.shape[1]
        self.born = keys.new_full((self.size,), frame)
        self.use = keys.new_zeros(self.size)

    def read(self, query: Tensor, size: int) -> Tensor:
        """Return the values (size, P) that a query (C_k, P) reads, zeros if the bank is empty.

        The use of a feature grows by ln(1 + positions that read it). The affinity is made in
        pieces, so that a full bank needs little memory beyond its own size.
        """
        result = query.new_zeros(size, query.shape[1])
        if not self.size:
            return result
        seen = torch.zeros_like(self.use)
        step = piece(self.size, query.device)
        for start in range(0, query.shape[1], step):
            columns = slice(start, start + step)
            weights = affinity(self.keys[None], query[None, :, columns])[0]  # (step, N)
            result[:, columns] = self.values @ weights.mT
            seen += (weights > SEEN).sum(0)
        self.use += torch.log1p(seen)
        return result

    def update(self, keys: Tensor, values: Tensor, frame: int) -> None:
        """Absorb features similar to those held, insert the rest in raster order.

        keys (C_k, P), values (C_v, P) of frame number `frame`.
        """
        closest, likeness = self._closest(keys)
        old = likeness > self.threshold
        if old.any():
            self._absorb(closest[old], keys[:, old], values[:, old])
        self._insert(keys[:, ~old], values[:, ~old], frame)
        self.use.clamp_(0, MOST_USE)

    def _closest(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return for new keys (C_k, P) the index (P,) of the most similar held key and its cosine
        (P,).
        """
        count = keys.shape[1]
        index = torch.zeros(count, dtype=torch.long, device=keys.device)
        best = keys.new_full((count,), -torch.inf)
        if self.size:
            held, new = F.normalize(self.keys, dim=0), F.normalize(keys, dim=0).mT
            step = piece(self.size, keys.device)
            for start in range(0, count, step):
                part = slice(start, start + step)
                best[part], index[part] = (new[part] @ held).max(1)
        return index, best

    def _absorb(self, into: Tensor, keys: Tensor, values: Tensor) -> None:
        """Turn each feature that is hit towards the mean direction of what hits it.

        Its length is kept up to what the mean loses.
        """
        hit = into.unique()
        # (absorbed, hit). A product has one order of summation on a GPU, which index_add has not.
        shares = (into[:, None] == hit).to(keys)
        shares /= shares.sum(0)
        for held, new in ((self.keys, keys), (self.values, values)):
            before = held[:, hit]
            mean = F.normalize(new, dim=0) @ shares
            turned = (1 - self.rate) * F.normalize(before, dim=0) + self.rate * mean
            held[:, hit] = before.norm(dim=0) * turned

    def _insert(self, keys: Tensor, values: Tensor, frame: int) -> None:
        """Append features; where the limit asks for it, evict old ones first.

        Of more features than an empty bank holds, the last ones are kept.
        """
        count = keys.shape[1]
        if self.limit < self.size + count:
            self.keep(self.survivors(count, frame))
            count = min(count, int(self.limit) - self.size)
            keys, values = keys[:, keys.shape[1] - count :], values[:, values.shape[1] - count :]
        self.keys = torch.cat([self.keys, keys], 1)
        self.values = torch.cat([self.values, values], 1)
        self.born = torch.cat([self.born, keys.new_full((count,), frame)])
        self.use = torch.cat([self.use, keys.new_zeros(count)])
        self.size += count

    def survivors(self, request: int, frame: int) -> Tensor:
        """Return the indices of the features that stay where `request` new ones need room.

        A feature's score is its mean use per frame of age. Features that score no more than an
        integer threshold are evicted; the threshold rises until there is room. This is coarse, as
        published, and can empty the bank.
        """
        score = self.use / (frame - self.born)
        kept = torch.arange(self.size, device=score.device)
        while len(kept):
            kept = kept[score[kept] > int(score[kept].min()) + 1]
            if self.limit - len(kept) - request >= 0:
                break
        return kept

    def keep(self, indices: Tensor) -> None:
        """Drop all features but these."""
        self.keys, self.values = self.keys[:, indices], self.values[:, indices]
        self.born, self.use = self.born[indices], self.use[indices]
        self.size = len(indices)
