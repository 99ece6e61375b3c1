"""Presets: the files of params/presets, each a grid in the form that people write."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from noisyvos.errors import UserError, unknown_name
from noisyvos.params.entries import read_yaml
from noisyvos.registry import Settings, describe

Protocol = Literal["davis", "visor", "youtube_vos", "long_videos", "all_frames"]
Seeds = tuple[NonNegativeInt, ...]
Names = tuple[str, ...]


class Pretrain(Settings):
    """The one training on still-image clips that all cells of a model start from."""

    images: str = Field(description="The dataset of still images that the clips are made from.")
    recipe: str = Field(description="The recipe of synth.yaml that makes the clips.")
    schedule: str = Field(description="The schedule of train.yaml.")
    method: str = Field("xmem", description="The method of methods.yaml.")
    seed: NonNegativeInt = 0


class Train(Settings):
    """What every block trains on unless the block names something else."""

    dataset: str = Field(description="The video dataset of datasets.yaml.")
    schedule: str = Field(description="The schedule of train.yaml.")


class Block(Settings):
    """A full product of axes. Blocks may overlap: a cell that is in several of them runs once."""

    about: str = Field("", description="One or two sentences for the report.")
    model: Names = Field(min_length=1, description="Networks of models.yaml.")
    noise: Names = Field(min_length=1, description="Label noise settings of noise.yaml.")
    method: Names = Field(min_length=1, description="Training methods of methods.yaml.")
    seed: Seeds = Field(min_length=1, description="Seeds of the training.")
    noise_seed: Seeds = Field(
        (),
        description="Seeds of the label noise; each runs with every `seed`. Without this setting"
        " the labels of a training have its own seed.",
    )
    prompts: Names = Field(
        (),
        description="Label noise on the masks that are given at test time. The cells are segmented"
        " again with each of these.",
    )
    corruptions: Names = Field(
        (),
        description="Image corruptions at test time. The cells are segmented again with each.",
    )
    dataset: str | None = Field(None, description="In place of the dataset of `train`.")
    schedule: str | None = Field(None, description="In place of the schedule of `train`.")
    reference: str | None = Field(
        None,
        description="The method that the other methods of this block are compared with, in place"
        " of the preset's.",
    )

    @model_validator(mode="after")
    def _labels_of_every_seed(self) -> "Block":
        if self.noise_seed and not set(self.seed) <= set(self.noise_seed):
            raise ValueError(
                "`noise_seed` must hold every `seed`, because the report compares each training"
                " with the one whose labels have the seed of the training"
            )
        return self

    def compared_with(self, reference: str | None) -> str:
        """Return the reference method: the block's own, else `reference` if run, else the first."""
        return self.reference or (reference if reference in self.method else self.method[0])


class Preset(Settings):
    """One file of params/presets."""

    title: str = Field(description="The title of the report.")
    about: str = Field("", description="One or two sentences for the report.")
    synthetic: bool = Field(
        False, description="The data are generated. Every table and figure then says so."
    )
    declared: bool = Field(
        False,
        description="Names that do not exist yet are listed and not refused. Such a preset can"
        " only be dry-run.",
    )
    tuning: bool = Field(
        False,
        description="A block holds the values of the main setting of one method; its reference is"
        " the published value. The report names the best value.",
    )
    pretrain: Pretrain
    train: Train
    evaluate: Names = Field(min_length=1, description="Datasets to segment and to score.")
    inference: str = Field("default", description="The evaluation setting of eval.yaml.")
    protocol: Protocol = "davis"
    protocols: dict[str, Protocol] = Field(
        default_factory=dict, description="Evaluation sets that are scored by another protocol."
    )
    reference: str | None = Field(
        None,
        description="The method that the others are compared with. Default: the first of a block.",
    )
    blocks: dict[str, Block] = Field(min_length=1)


def preset_names(params: Path) -> tuple[str, ...]:
    """Return the names of all presets."""
    return tuple(sorted(path.stem for path in (params / "presets").glob("*.yaml")))


def read_preset(params: Path, name: str) -> Preset:
    """Return a preset; UserError for an unknown name or wrong content.

    `noisyvos.params.validate.check` checks the names that the preset refers to.
    """
    known = preset_names(params)
    if name not in known:
        raise unknown_name("preset", name, known)
    path = params / "presets" / f"{name}.yaml"
    try:
        return Preset(**read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}") from None


def references(preset: Preset) -> dict[str, list[str]]:
    """Return every name that a preset uses, by family, in order of first use."""
    blocks = preset.blocks.values()
    pretrain, train = preset.pretrain, preset.train
    used = {
        "datasets": [
            pretrain.images,
            train.dataset,
            *preset.evaluate,
            *(block.dataset for block in blocks if block.dataset),
        ],
        "synth": [pretrain.recipe],
        "noise": [name for block in blocks for name in (*block.noise, *block.prompts)],
        "corruptions": [name for block in blocks for name in block.corruptions],
        "models": [name for block in blocks for name in block.model],
        "methods": [pretrain.method, *(name for block in blocks for name in block.method)],
        "train": [
            pretrain.schedule,
            train.schedule,
            *(block.schedule for block in blocks if block.schedule),
        ],
        "eval": [preset.inference],
    }
    return {family: list(dict.fromkeys(names)) for family, names in used.items()}


def missing_names(params: Path, preset: Preset) -> list[tuple[str, str]]:
    """Return (family, name) for each name that a preset uses and no parameter file defines."""
    missing = []
    for family, names in references(preset).items():
        defined: dict[str, Any] = read_yaml(params / f"{family}.yaml")
        missing += [(family, name) for name in names if name not in defined]
    return missing
