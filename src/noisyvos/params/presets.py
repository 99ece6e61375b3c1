"""Presets: the files of params/presets, each a grid in the form that people write."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from noisyvos.errors import UserError, unknown_name
from noisyvos.params.entries import read_yaml
from noisyvos.registry import Settings, describe
from noisyvos.starts.sources import sources_of

Protocol = Literal["davis", "visor", "youtube_vos", "long_videos", "all_frames"]
Rules = Literal["davis", "youtube_vos"]
Seeds = tuple[NonNegativeInt, ...]
Names = tuple[str, ...]
PerModel = str | dict[str, str]  # one name for all networks, or one for each
START = "start"  # as `init`: the start of the network, without a phase
RANDOM = "random"  # the start of networks that the preset gives none


def of_model(names: PerModel, model: str, default: str = "") -> str:
    """Return the name for one network."""
    return names if isinstance(names, str) else names.get(model, default)


def all_names(names: PerModel | None) -> list[str]:
    """Return every name that is given."""
    if names is None:
        return []
    return [names] if isinstance(names, str) else list(names.values())


class Clips(Settings):
    """Training clips that a recipe makes of still images."""

    images: str = Field(description="The dataset of still images.")
    recipe: str = Field(description="The recipe of synth.yaml.")
    live: bool = Field(
        False,
        description="Draw fresh clips during the training, as published trainings do. Without it"
        " the stage `synth` stores the clips once and the training reads them again and again.",
    )


class Phase(Settings):
    """A training whose result other trainings start from."""

    about: str = Field("", description="One sentence for the plan.")
    clips: Clips | None = Field(None, description="Train on clips of still images.")
    dataset: str | None = Field(None, description="Or train on a video dataset.")
    noise: str = Field("clean", description="Label noise on the dataset.")
    schedule: PerModel = Field(description="The schedule of train.yaml, or one for each network.")
    method: PerModel = Field(
        "xmem", description="The method of methods.yaml, or one for each network."
    )
    init: PerModel = Field(
        START, description="The phase that this one starts from, or `start`; or one each network."
    )
    seed: NonNegativeInt = Field(0, description="Seed of the training.")

    @model_validator(mode="after")
    def _one_material(self) -> "Phase":
        if (self.clips is None) == (self.dataset is None):
            raise ValueError("a phase trains either on `clips` or on a `dataset`")
        return self


class Train(Settings):
    """What every block trains on unless the block names something else."""

    dataset: str = Field(description="The video dataset of datasets.yaml.")
    schedule: PerModel = Field(description="The schedule of train.yaml, or one for each network.")


class EvaluationSet(Settings):
    """How the cells are evaluated on one dataset."""

    settings: PerModel = Field(
        "default", description="The evaluation setting of eval.yaml, or one for each network."
    )
    protocol: Protocol = Field("davis", description="The protocol of the scores.")
    submit: Rules | None = Field(
        None,
        description="The true masks are not public. Write a zip for the server with these rules in"
        " place of scores.",
    )
    prompts: str = Field(
        "",
        description="With `submit`: what the network is given in place of the dataset's masks, a"
        " name of noise.yaml, for example scribbles. Scored sets have the `prompts` of blocks.",
    )

    @model_validator(mode="after")
    def _prompts_are_submitted(self) -> "EvaluationSet":
        if self.prompts and not self.submit:
            raise ValueError("`prompts` goes with `submit`; scored sets have those of blocks")
        return self


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
    prompt_seed: Seeds = Field(
        (0,),
        min_length=1,
        description="Seeds of that label noise, for example of five sets of scribbles. With several"
        " seeds the table of the prompts has the spread between them.",
    )
    corruptions: Names = Field(
        (),
        description="Image corruptions at test time. The cells are segmented again with each.",
    )
    dataset: str | None = Field(None, description="In place of the dataset of `train`.")
    schedule: PerModel | None = Field(None, description="In place of the schedule of `train`.")
    init: PerModel | None = Field(
        None,
        description="The phase that the trainings start from, or `start`; or one each network.",
    )
    label: str = Field(
        "",
        pattern=r"^[a-z0-9_]*$",
        description="Added to the keys of the cells, where two blocks train the same cell in two"
        " ways.",
    )
    evaluate: Names = Field(
        (), description="The evaluation sets of this block. Default: all sets of the preset."
    )
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
    starts: dict[str, str] = Field(
        default_factory=dict,
        description="The start (starts.yaml) of each network. A network without one starts from"
        " random weights.",
    )
    allow_random_start: bool = Field(
        False, description="Allow a schedule with `published: true` from random weights."
    )
    phases: dict[str, Phase] = Field(
        default_factory=dict, description="Trainings that others start from, by name."
    )
    init: PerModel | None = Field(
        None, description="What blocks start from. Default: the last phase, or `start` without any."
    )
    train: Train = Field(description="Dataset and schedule of all blocks that name none.")
    evaluate: dict[str, EvaluationSet] = Field(
        min_length=1, description="Datasets to segment, and how to score each."
    )
    reference: str | None = Field(
        None,
        description="The method that the others are compared with. Default: the first of a block.",
    )
    blocks: dict[str, Block] = Field(
        min_length=1,
        description=(
            "Blocks by name. Each is a full product of its axes; a cell in several "
            "blocks runs once."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        """Expand the short forms: one `pretrain`, one `inference`, a list of evaluation sets."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "pretrain" in values:
            if "phases" in values:
                raise ValueError("`pretrain` is short for one phase of that name; use `phases`")
            phase = values.pop("pretrain")
            if isinstance(phase, dict) and "clips" not in phase:
                clips = {key: phase[key] for key in ("images", "recipe") if key in phase}
                rest = {key: value for key, value in phase.items() if key not in clips}
                phase = rest | {"clips": clips}
            values["phases"] = {"pretrain": phase}
        common = {
            name: values.pop(old)
            for old, name in (("inference", "settings"), ("protocol", "protocol"))
            if old in values
        }
        protocols = values.pop("protocols", {})
        sets = values.get("evaluate")
        if isinstance(sets, list | tuple) and all(isinstance(name, str) for name in sets):
            sets = {name: {} for name in sets}
        if isinstance(sets, dict) and isinstance(protocols, dict):
            for name in protocols:
                if name not in sets:
                    raise ValueError(f"protocols: {name!r} is not an evaluation set of this preset")
            values["evaluate"] = {
                name: common
                | ({"protocol": protocols[name]} if name in protocols else {})
                | (entry or {})
                if isinstance(entry, dict | None)
                else entry
                for name, entry in sets.items()
            }
        return values

    @model_validator(mode="after")
    def _known_places(self) -> "Preset":
        for name, block in self.blocks.items():
            for place in block.evaluate:
                if place not in self.evaluate:
                    raise ValueError(f"blocks: {name}: evaluate: {place!r} is not in `evaluate`")
        for where, init in self._inits():
            for phase in all_names(init):
                if phase != START and phase not in self.phases:
                    known = ", ".join([START, *self.phases])
                    raise ValueError(f"{where}: init: unknown phase {phase!r}. Known: {known}")
        for name, block in self.blocks.items():
            for model in block.model:
                if not self.schedule_of(block, model):
                    raise ValueError(
                        f"blocks: {name}: {model} has no schedule, nor has `train` one"
                    )
                for phase in self.chain(self.init_of(block, model), model):
                    if not of_model(self.phases[phase].schedule, model):
                        raise ValueError(f"phases: {phase}: {model} has no schedule")
        return self

    def _inits(self) -> list[tuple[str, PerModel | None]]:
        return [
            ("preset", self.init),
            *((f"phases: {name}", phase.init) for name, phase in self.phases.items()),
            *((f"blocks: {name}", block.init) for name, block in self.blocks.items()),
        ]

    def start_of(self, model: str) -> str:
        """Return the start of a network."""
        return self.starts.get(model, RANDOM)

    def schedule_of(self, block: Block, model: str) -> str:
        """Return the schedule of a network in a block; empty where none is given."""
        found = "" if block.schedule is None else of_model(block.schedule, model)
        return found or of_model(self.train.schedule, model)

    def init_of(self, block: Block, model: str) -> str:
        """Return what the trainings of a network in a block start from: a phase, or START."""
        last = next(reversed(self.phases), START)
        for names in (block.init, self.init):
            if names is not None and of_model(names, model):
                return of_model(names, model)
        return last

    def chain(self, init: str, model: str) -> list[str]:
        """Return the phases that lead to `init`, first to last, for a network.

        ValueError where a phase starts from itself.
        """
        found: list[str] = []
        while init != START:
            if init in found:
                raise ValueError(f"phases: {init}: this phase starts from itself")
            found.insert(0, init)
            init = of_model(self.phases[init].init, model, START)
        return found


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
    blocks, phases, train = preset.blocks.values(), preset.phases.values(), preset.train
    clips = [phase.clips for phase in phases if phase.clips]
    models = [name for block in blocks for name in block.model]
    used = {
        "datasets": [
            *(each.images for each in clips),
            *(phase.dataset for phase in phases if phase.dataset),
            train.dataset,
            *preset.evaluate,
            *(block.dataset for block in blocks if block.dataset),
        ],
        "synth": [each.recipe for each in clips],
        "noise": [
            *(phase.noise for phase in phases if phase.dataset),
            *(name for block in blocks for name in (*block.noise, *block.prompts)),
            *(each.prompts for each in preset.evaluate.values() if each.prompts),
        ],
        "corruptions": [name for block in blocks for name in block.corruptions],
        "models": models,
        "starts": [*preset.starts.values(), *(preset.start_of(model) for model in models)],
        "methods": [
            *(name for phase in phases for name in all_names(phase.method)),
            *(name for block in blocks for name in block.method),
        ],
        "train": [
            *(name for phase in phases for name in all_names(phase.schedule)),
            *all_names(train.schedule),
            *(name for block in blocks for name in all_names(block.schedule)),
        ],
        "eval": [name for each in preset.evaluate.values() for name in all_names(each.settings)],
    }
    return {family: list(dict.fromkeys(names)) for family, names in used.items()}


def missing_names(params: Path, preset: Preset) -> list[tuple[str, str]]:
    """Return (family, name) for each name that a preset uses and no parameter file defines.

    This includes the sources that its starts read.
    """
    defined = {family: read_yaml(params / f"{family}.yaml") for family in references(preset)}
    missing = [
        (family, name)
        for family, names in references(preset).items()
        for name in names
        if name not in defined[family]
    ]
    sources = read_yaml(params / "sources.yaml")
    for model in dict.fromkeys(name for block in preset.blocks.values() for name in block.model):
        start = preset.start_of(model)
        entry = {"kind": start} | (defined["starts"].get(start) or {})
        kind = (defined["models"].get(model) or {}).get("kind", model)
        missing += [("sources", name) for name in sources_of(entry, kind) if name not in sources]
    return list(dict.fromkeys(missing))
