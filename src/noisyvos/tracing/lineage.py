"""The jobs behind an output: found by a cell's key or a path, and all that they depend on."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path, PurePosixPath

from noisyvos.errors import UserError, unknown_name
from noisyvos.pipeline import code_deps
from noisyvos.pipeline.cells import active_preset
from noisyvos.pipeline.dvc_yaml import Job, Pipeline, load

_PRESET_FOLDERS = ("results", "runs")


@dataclass
class Lineage:
    """The jobs of a preset with who makes what."""

    pipeline: Pipeline
    maker: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.maker = {out: job for job in self.pipeline for out in job.outs}

    @property
    def root(self) -> Path:
        """The folder of the repository."""
        return self.pipeline.root

    @property
    def preset(self) -> str:
        """The name of the preset."""
        return str(self.pipeline.cells["preset"]["name"])

    def before(self, job: Job) -> list[Job]:
        """Return the jobs whose outputs a job reads."""
        found = {path: self.maker[path] for path in self.pipeline.inputs(job) if path in self.maker}
        return list({other.name: other for other in found.values()}.values())

    def chain(self, job: Job) -> list[Job]:
        """Return the job and all that it depends on, inputs before what reads them."""
        found: dict[str, Job] = {}

        def visit(other: Job) -> None:
            for earlier in self.before(other):
                if earlier.name not in found:
                    visit(earlier)
            found[other.name] = other

        visit(job)
        return list(found.values())

    def find(self, text: str) -> list[Job]:
        """Return the jobs that `text` names: DVC's name of a job, a cell's key, or a path.

        Jobs that other found jobs depend on are left out: the key of a scored cell gives the
        job that scores it. An empty list for an unknown name.
        """
        path = self._relative(text)
        found = [
            job
            for job in self.pipeline
            if path in (job.name, job.key) or any(_holds(out, path) for out in job.outs)
        ]
        if len(found) < 2:
            return found
        earlier = {other.name for job in found for other in self.chain(job)[:-1]}
        return [job for job in found if job.name not in earlier]

    @property
    def keys(self) -> set[str]:
        """Return the keys of all cells."""
        return {job.key for job in self.pipeline}

    def _relative(self, text: str) -> str:
        path = Path(text)
        if path.is_absolute():
            root = self.root.resolve()
            path = path.relative_to(root) if path.is_relative_to(root) else path
        return path.as_posix()


def open_lineage(root: Path, preset: str = "") -> Lineage:
    """Return the jobs of a preset; the hashes of the code are brought up to date first."""
    code_deps.refresh(root / code_deps.CODE_FILE, root / "params")
    return Lineage(load(root, preset))


def locate(root: Path, text: str, preset: str = "") -> tuple[Lineage, Job]:
    """Return the job that `text` names, in `preset` or else where it is found.

    Without `preset`: the one that a path names, the active one, then all that have results.
    UserError for an unknown or ambiguous name.
    """
    tried: dict[str, Lineage] = {}
    for name in [preset] if preset else _presets(root, text):
        lineage = open_lineage(root, name)
        tried[name] = lineage
        found = lineage.find(text)
        if len(found) == 1:
            return lineage, found[0]
        if found:
            names = ", ".join(sorted(job.name for job in found)[:8])
            raise UserError(f"{text!r} names several jobs: {names}. Give one of these names.")
    known = {key for lineage in tried.values() for key in lineage.keys}
    error = unknown_name("cell", text, known)
    if len(known) > 30:  # too many to list
        message = str(error).partition(" Known: ")[0]
        raise UserError(f"{message} Presets searched: {', '.join(tried)}. Name one with --preset.")
    raise error


def _presets(root: Path, text: str) -> list[str]:
    parts = PurePosixPath(text).parts
    named = [after for part, after in pairwise(parts) if part in _PRESET_FOLDERS]
    with_results = sorted(path.name for path in (root / "results").glob("*") if path.is_dir())
    known = [name for name in with_results if (root / f"params/presets/{name}.yaml").is_file()]
    named = [name for name in named if name in known]
    return named or list(dict.fromkeys([active_preset(root / "params"), *known]))


def _holds(out: str, path: str) -> bool:
    """Return whether an output is at this path, above or below it, or has it as a name."""
    if "/" in path:
        return out == path or out.startswith(f"{path}/") or path.startswith(f"{out}/")
    return path in {part.partition(".")[0] for part in out.split("/")[2:]}
