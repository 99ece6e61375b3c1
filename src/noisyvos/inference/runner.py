"""A network with its weights and evaluation settings, ready to segment videos.

The stages `infer` and `segment` share it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from noisyvos.devices import Amp, choose_device, half_precision
from noisyvos.errors import unknown_name
from noisyvos.garbage import settle
from noisyvos.inference.results import FrameResult
from noisyvos.inference.settings import Evaluation, MemoryOptions, View, WorkingSize
from noisyvos.params.entries import read_family
from noisyvos.registry import Item

if TYPE_CHECKING:
    from noisyvos.models.base import VideoModel


@dataclass(frozen=True)
class Runner:
    """A loaded network and how to run it."""

    network: "VideoModel"
    memory: Mapping[str, Any]
    size: WorkingSize
    views: tuple[View, ...]
    amp: Amp
    cuda_graphs: bool = False

    @cached_property
    def _fast(self) -> "VideoModel":
        """The form for inference; weights of a runner stay, so no video looks for changes."""
        device = next(self.network.parameters()).device
        return self.network.for_inference(half_precision(self.amp, device, inference=True))

    def segment(
        self,
        frames: Iterable[np.ndarray],
        masks: Mapping[int, np.ndarray],
        *,
        keep_probabilities: bool = False,
    ) -> Iterator[FrameResult]:
        """Yield the result of every frame, given index masks of some; see `iterate_video`."""
        from noisyvos.inference.video import iterate_video

        return iterate_video(
            self._fast,
            frames,
            masks,
            self.memory,
            self.size,
            self.amp,
            views=self.views,
            prefetched=True,
            keep_probabilities=keep_probabilities,
            cuda_graphs=self.cuda_graphs,
        )


def open_runner(
    model: str,
    weights: str,
    settings: str,
    params: Path,
    *,
    size: int | None = None,
    memory: MemoryOptions | None = None,
    device: str = "auto",
    threads: int = 1,
) -> Runner:
    """Load network `model` of models.yaml with the entry `settings` of eval.yaml.

    weights: a file, this project's or published, also of XMem's still-image stage, or "none" for an
    untrained network. `size` and `memory` go before those of the entry. Names are checked before
    the network is built. UserError or FileNotFoundError if a name, the weights or the device is
    missing, the weights do not fit, or a memory setting is unknown or impossible.
    """
    kinds, evaluations = read_family(params, "models"), read_family(params, "eval")
    if model not in kinds:
        raise unknown_name("model of models.yaml", model, kinds)
    if settings not in evaluations:
        raise unknown_name("evaluation setting of eval.yaml", settings, evaluations)
    if weights != "none" and not Path(weights).is_file():
        raise FileNotFoundError(
            f"{weights}: no such weights. Train them first, or name a published file."
        )
    where = f"eval.yaml: {settings}"
    evaluation = Item(settings, Evaluation, Evaluation, "").validate(evaluations[settings], where)
    assert isinstance(evaluation, Evaluation)
    overrides = dict(kinds[model])
    kind = str(overrides.pop("kind"))
    entry = evaluation.memory.get(kind, {})

    import torch

    from noisyvos import models
    from noisyvos.models.base import choose_settings
    from noisyvos.models.pretrained import load_checkpoint

    place = choose_device(device)
    torch.set_num_threads(threads)
    network = models.build(kind, **overrides)
    choose_settings(network.memory_settings, entry, f"{where}: memory of {kind}")
    if memory is not None:
        entry = memory.over(entry, network.memory_settings.model_fields, model)
        choose_settings(network.memory_settings, entry, f"the memory of {model}")
    if weights != "none":
        load_checkpoint(network, weights, "zero")
    settle()
    return Runner(
        network.to(place),
        entry,
        evaluation.working_size(size),
        evaluation.views(),
        evaluation.amp,
        evaluation.cuda_graphs,
    )
