"""How networks are evaluated: entries of params/eval.yaml, and options of a single run."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import Field

from noisyvos.devices import Amp
from noisyvos.errors import UserError, unknown_name
from noisyvos.limits import LONGEST_SIDE
from noisyvos.registry import Settings


@dataclass(frozen=True)
class WorkingSize:
    """The size in pixels at which a network works. Results always have the size of the video."""

    shorter: int | None = None  # side; None: as is
    longest: int | None = None  # limit of the longer side, before a view's scale
    enlarge: bool = True  # whether `shorter` also enlarges a smaller video

    def of(self, full: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Return the (height, width) for a video of size `full`, rounded down, times `scale`."""
        side = target = min(full)
        if self.shorter is not None and (self.enlarge or self.shorter < side):
            target = self.shorter
        if self.longest is not None and max(full) * target > self.longest * side:
            side, target = max(full), self.longest
        elif self.shorter is None or target == side:
            side = target = 1
        height, width = (max(1, int(each / side * target * scale)) for each in full)
        return height, width


@dataclass(frozen=True)
class View:
    """One way to look at a video; the probabilities of all views are averaged."""

    scale: float = 1.0  # factor on the working size
    flip: bool = False  # left and right exchanged, undone in the result


Scale = Annotated[float, Field(gt=0, le=16)]


class Evaluation(Settings):
    """Working size, views and memory settings; what is left out is the network's default."""

    size: int | None = Field(
        None,
        ge=1,
        le=LONGEST_SIDE,
        description="Shorter side to work at. Null works at the size of the video.",
    )
    longer_side: int | None = Field(
        None,
        ge=1,
        le=LONGEST_SIDE,
        description=(
            "Limit of the longer side. It applies after `size`, before `scales`. Null "
            "sets no limit."
        ),
    )
    enlarge: bool = Field(
        True, description="Whether `size` also enlarges a video with a smaller shorter side."
    )
    scales: list[Scale] = Field(
        default_factory=lambda: [1.0],
        min_length=1,
        max_length=32,
        description=(
            "Factors on the working size. Each is a separate view of the video with a "
            "separate memory. The result averages the probabilities of all views."
        ),
    )
    flip: bool = Field(
        False,
        description=(
            "Whether each scale is also run on the mirrored video. This doubles the views."
        ),
    )
    amp: Amp = Field(
        False,
        description=(
            "Half precision on a GPU. True is fp16, as published results are computed. A CPU takes "
            "bf16 only, if it computes in it, and ignores the others."
        ),
    )
    cuda_graphs: bool = Field(
        False,
        description=(
            "Whether a GPU records parts of the network once per shape and replays them, so that "
            "it waits less for Python."
        ),
    )
    memory: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Memory settings for each kind of network."
    )

    def working_size(self, size: int | None = None) -> WorkingSize:
        """Return the working size; `size` goes before the entry's own shorter side."""
        return WorkingSize(size or self.size, self.longer_side, self.enlarge)

    def views(self) -> tuple[View, ...]:
        """Return every scale, then every scale flipped if `flip` is set."""
        flips = (False, True) if self.flip else (False,)
        return tuple(View(scale, flip) for flip in flips for scale in self.scales)


@dataclass(frozen=True)
class MemoryOptions:
    """Memory settings from the command line; they go before those of eval.yaml.

    Three settings that are often varied have options with their own names.
    """

    pairs: tuple[str, ...] = ()  # KEY=VALUE of the network's memory settings
    budget: int | None = None
    update_rate: float | None = None
    mem_every: int | None = None

    def values(self, known: Iterable[str], model: str) -> dict[str, Any]:
        """Return the settings by name, for a network whose memory has the settings `known`.

        UserError names an option that the network's memory lacks, a pair that is not KEY=VALUE or a
        setting that is given twice. Values are read as YAML; the network's settings check them.
        """
        known = tuple(known)
        found: dict[str, Any] = {}
        for pair in self.pairs:
            key, equals, text = pair.partition("=")
            if not equals:
                raise UserError(f"--memory {pair}: write KEY=VALUE, for example mem_every=10.")
            if key not in known:
                raise unknown_name(f"memory setting of {model}", key, known)
            if key in found:
                raise UserError(f"--memory {key} is given twice.")
            found[key] = _value(key, text)
        every = "every" if "every" in known else "mem_every"  # STM's name, and that of the others
        aliases = {
            "--budget": ("budget", self.budget),
            "--update-rate": ("update_rate", self.update_rate),
            "--mem-every": (every, self.mem_every),
        }
        for option, (key, value) in aliases.items():
            if value is None:
                continue
            if key not in known:
                raise UserError(
                    f"{option}: the memory of {model} has no setting {key!r}. "
                    f"It has {', '.join(known)}."
                )
            if key in found:
                raise UserError(f"{option} and --memory {key}=... set the same. Give one of them.")
            found[key] = value
        return found

    def over(self, entry: Mapping[str, Any], known: Iterable[str], model: str) -> dict[str, Any]:
        """Return the memory settings of an entry of eval.yaml with these in their place.

        STM's `every` and `number` exclude each other, so either one removes the entry's other one.
        """
        chosen = self.values(known, model)
        kept = dict(entry)
        for one, other in (("every", "number"), ("number", "every")):
            if one in chosen:
                kept.pop(other, None)
        return {**kept, **chosen}


def _value(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--memory {key}={text}: this value cannot be read.") from None
