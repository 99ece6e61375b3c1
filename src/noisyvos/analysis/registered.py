"""The hypotheses registered before any run: what each claims, and which cells it needs.

Each is a weighted sum of scores over cells that share training set, network, schedule and seed.
Methods and label noises are those that the hypothesis names; no other cell replaces them. The
registered texts leave three choices open, which we fix here: which levels count, equal weights
for methods and conditions, and the test of H3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from noisyvos.analysis.statistics.multiple import slope_weights

KINDS = ("dilate", "erode", "mix")
BIASED = ("dilate", "erode")
LEVELS = (90, 80, 70, 60)  # block A of the full grid
REGISTERED_SET = "davis17_val"
REGISTERED_MODEL = "xmem"

MEANING = {"clean": ("clean", 1.0)} | {
    f"{kind}{level}{how}": (kind, level / 100)
    for kind in KINDS
    for level in LEVELS
    for how in ("", "_persistent")
}  # the kind and mean IoU that labels of a name must have

Place = tuple[str, str]  # (label noise, method)
Weights = dict[Place, float]
_PER = 0.1  # of IoU, the unit of a slope


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of cells in J&F points.

    weigh: returns the weights from the noise, 1 - achieved IoU, of each label noise.
    """

    text: str
    places: tuple[Place, ...]
    weigh: Callable[[Mapping[str, float]], Weights]
    unit: str = "points"


@dataclass(frozen=True)
class Hypothesis:
    """A registered claim: the `main` contrast is above 0, or at most `at_most` points above 0.

    beside: contrasts that are printed with it and get no verdict.
    """

    name: str
    claim: str
    main: Contrast
    beside: tuple[Contrast, ...] = ()
    at_most: float | None = None

    @cached_property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The contrast of the claim, then those beside it."""
        return (self.main, *self.beside)


def difference(text: str, first: tuple[str, ...], second: str, noises: tuple[str, ...]) -> Contrast:
    """Return the mean difference of methods `first` to method `second` over noises."""
    share = 1 / (len(first) * len(noises))
    weights: Weights = {(noise, method): share for noise in noises for method in first}
    weights |= {(noise, second): -share * len(first) for noise in noises}
    return Contrast(text, tuple(weights), lambda noise: weights)


def interaction(text: str, methods: tuple[str, str], noises: tuple[str, str]) -> Contrast:
    """Return the difference of the methods at the first noise less that at the second noise."""
    (first, second), (here, there) = methods, noises
    weights: Weights = {
        (here, first): 1.0,
        (here, second): -1.0,
        (there, first): -1.0,
        (there, second): 1.0,
    }
    return Contrast(text, tuple(weights), lambda noise: weights)


def slope(text: str, methods: tuple[str, str], noises: tuple[str, ...]) -> Contrast:
    """Return the least-squares slope of the methods' difference on the achieved noise.

    Its unit is points for each 0.1 of IoU that labels lose.
    """
    places = tuple((noise, method) for noise in noises for method in methods)

    def weigh(achieved: Mapping[str, float]) -> Weights:
        by_noise = _PER * slope_weights(np.array([achieved[noise] for noise in noises]))
        return {
            (noise, method): sign * w
            for noise, w in zip(noises, by_noise)
            for method, sign in zip(methods, (1.0, -1.0))
        }

    return Contrast(text, places, weigh, "points for each 0.1 of IoU that labels lose")


def change(text: str, methods: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> Contrast:
    """Return the score under the first noise of a pair less that under the second.

    It is averaged over methods and pairs.
    """
    share = 1 / (len(methods) * len(pairs))
    weights: Weights = {}
    for method in methods:
        for first, second in pairs:
            weights |= {(first, method): share, (second, method): -share}
    return Contrast(text, tuple(weights), lambda noise: weights)


def _levels(kinds: tuple[str, ...], levels: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{kind}{level}" for kind in kinds for level in levels)


_STRONG = _levels(KINDS, (80, 70))
_ROBUST = ("gce", "sce", "apl")
HYPOTHESES = (
    Hypothesis(
        "H1",
        "smart_unit scores above xmem, mean over dilate, erode and mix at IoU 0.8 and 0.7",
        difference("smart_unit − xmem", ("smart_unit",), "xmem", _STRONG),
        (
            difference(
                "smart_unit − ce_topp (both without dice)", ("smart_unit",), "ce_topp", _STRONG
            ),
        ),
    ),
    Hypothesis(
        "H2",
        "what smart_released gains over ce_topp is more at dilate 0.7 than at erode 0.7",
        interaction(
            "(smart_released − ce_topp) at dilate70 less the same at erode70",
            ("smart_released", "ce_topp"),
            ("dilate70", "erode70"),
        ),
        (
            difference(
                "smart_released − ce_topp at dilate70",
                ("smart_released",),
                "ce_topp",
                ("dilate70",),
            ),
            difference(
                "smart_released − ce_topp at erode70", ("smart_released",), "ce_topp", ("erode70",)
            ),
        ),
    ),
    Hypothesis(
        "H3",
        "pixelwise robust losses (gce, sce, apl) do not beat ce_plain under biased noise "
        "(dilate, erode); they may under mix",
        difference(
            "mean of gce, sce, apl − ce_plain, dilate and erode",
            _ROBUST,
            "ce_plain",
            _levels(BIASED, LEVELS),
        ),
        (
            *(
                difference(
                    f"{method} − ce_plain, dilate and erode",
                    (method,),
                    "ce_plain",
                    _levels(BIASED, LEVELS),
                )
                for method in _ROBUST
            ),
            difference(
                "mean of gce, sce, apl − ce_plain, mix",
                _ROBUST,
                "ce_plain",
                _levels(("mix",), LEVELS),
            ),
        ),
        at_most=0.5,
    ),
    Hypothesis(
        "H4",
        "ce_plain − xmem (they differ only in mining) grows as labels get worse: "
        "mining amplifies noise",
        slope(
            "slope of ce_plain − xmem on lost IoU, clean and all levels of dilate, erode, mix",
            ("ce_plain", "xmem"),
            ("clean", *_levels(KINDS, LEVELS)),
        ),
        tuple(
            slope(
                f"the same slope, clean and {kind}",
                ("ce_plain", "xmem"),
                ("clean", *_levels((kind,), LEVELS)),
            )
            for kind in KINDS
        ),
    ),
    Hypothesis(
        "H5",
        "persistent noise hurts more than noise drawn anew in every frame, at equal IoU 0.7",
        change(
            "score under independent less under persistent noise, "
            "mean of xmem, coteach, smart_unit",
            ("xmem", "coteach", "smart_unit"),
            tuple((f"{kind}70", f"{kind}70_persistent") for kind in KINDS),
        ),
        tuple(
            change(
                f"the same, {method} alone",
                (method,),
                tuple((f"{kind}70", f"{kind}70_persistent") for kind in KINDS),
            )
            for method in ("xmem", "coteach", "smart_unit")
        ),
    ),
)
