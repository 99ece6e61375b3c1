"""What the documentation shows is real.

Its Python runs, its commands parse, its entries validate, and its paths exist.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
import yaml

from noisyvos.cli import app
from noisyvos.datasets.augmentations.base import AUGMENTATIONS
from noisyvos.datasets.base import DATASETS, Conversion
from noisyvos.datasets.layout import VideoDataset
from noisyvos.io.images import encode_frame
from noisyvos.io.masks import encode_mask
from noisyvos.methods.base import METHODS
from noisyvos.noise.base import NOISE, Video
from noisyvos.params.entries import read_family
from noisyvos.params.presets import Block, Phase
from noisyvos.pipeline.catalog import FAMILIES
from noisyvos.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "data/README.md", *sorted(ROOT.glob("docs/**/*.md")))
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)
MODULE = re.compile(r"# src/noisyvos/\S+/(\w+)\.py\n")  # how a block that is a whole module begins
NAMES = {  # options whose value is a name of a parameter file
    "--noise": "noise",
    "--recipe": "synth",
    "--model": "models",
    "--method": "methods",
    "--schedule": "train",
    "--settings": "eval",
    "--corruption": "corruptions",
    "--source": "sources",
}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield (page, text) of every fenced block in a language; an empty one is what people type."""
    for page, text in PAGES.items():
        for found in FENCE.finditer(text):
            if found[1] == language:
                yield page, found[2]


MODULES = {
    found[1]: text[found.end() :]
    for _, text in blocks("python")
    if (found := MODULE.match(text)) is not None
}


def typed() -> list[tuple[str, str]]:
    """Return (page, command line) of every documented call of `noisyvos` in a block."""
    lines = [
        (page, line)
        for page, text in blocks("")
        for line in re.sub(r"\\\n\s*", "", text).splitlines()
    ]
    return [
        (page, part.strip())
        for page, line in lines
        for part in line.split("&&")
        if part.strip().startswith("noisyvos ")
    ]


def mentioned() -> list[tuple[str, str]]:
    """Return (page, command line) of every call that a sentence mentions."""
    return [
        (page, found[1])
        for page, text in PAGES.items()
        for found in re.finditer(r"`(noisyvos [a-z][^`]*)`", FENCE.sub("", text))
    ]


@cache
def application() -> Any:
    """Return the program with all its commands, which takes a tenth of a second to make."""
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the words name, and the words after its name."""
    command: Any = application()
    words = words[1:]
    while hasattr(command, "commands"):
        assert words, "the command is not complete"
        assert words[0] in command.commands, f"{words[0]!r} is not a command"
        command, words = command.commands[words[0]], words[1:]
    return command, words


# --- commands -----------------------------------------------------------------------------------


def test_the_documentation_has_commands() -> None:
    assert len(typed()) > 40
    shown = {command_of(shlex.split(line, comments=True))[0].name for _, line in typed()}
    assert {"segment", "noise", "download", "plan", "record", "adopt", "synth"} <= shown


@pytest.mark.parametrize(("page", "line"), typed())
def test_command_in_a_block_parses_and_names_what_exists(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    command, arguments = command_of(words)
    if "..." in arguments:  # an excerpt: what is there must exist
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        assert {word for word in arguments if word.startswith("--")} <= known
    else:
        command.make_context(command.name, list(arguments))  # a wrong or missing option is an error
    for option, value in pairwise(arguments):
        if option in NAMES and not value.isupper():
            assert value in entries(NAMES[option]), f"{option} {value}"
        if option == "--preset":
            assert value == "NAME" or (ROOT / f"params/presets/{value}.yaml").is_file()
    if command.name == "plan":
        assert (ROOT / f"params/presets/{arguments[0]}.yaml").is_file()


@pytest.mark.parametrize(("page", "line"), sorted(set(mentioned())))
def test_command_in_a_sentence_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line)
    if words[1:] and words[1].startswith("-"):
        assert words[1:] == ["--help"]
        return
    if words[1:] == ["convert"]:
        return  # the group as a whole
    command, arguments = command_of(words)
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert {word for word in arguments if word.startswith("--")} <= known


def test_a_wrong_command_would_be_found() -> None:
    command, arguments = command_of(shlex.split("noisyvos segment --video a --mask b --modle c"))
    with pytest.raises(Exception, match="No such option"):
        command.make_context(command.name, arguments)
    with pytest.raises(AssertionError, match="not a command"):
        command_of(["noisyvos", "trian"])


@pytest.mark.parametrize(
    "target",
    sorted(
        set(re.findall(r"^make (\w[\w-]*)", "\n".join(text for _, text in blocks("")), flags=re.M))
    ),
)
def test_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.M)


# --- parameter files and paths -------------------------------------------------------------------


def entries(family: str) -> dict:
    """Return params/<family>.yaml."""
    return yaml.safe_load((ROOT / f"params/{family}.yaml").read_text(encoding="utf-8"))


def test_every_augmentation_is_in_the_table() -> None:
    table = PAGES["docs/reference/schedules.md"]
    for name in AUGMENTATIONS.names():
        assert re.search(rf"^\| .*`{name}`.* \| ", table, flags=re.M), name


PARTS = {"phases": Phase, "blocks": Block}  # of a preset
PROFILE = {"default-resources", "set-resources", "set-threads"}  # Snakemake's own


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_entries_validate(page: str, text: str) -> None:
    content = yaml.safe_load(text)
    for name, values in content.items():
        if not isinstance(values, dict):
            continue  # a key of a preset or schedule
        if name in PROFILE:
            continue
        if "model" in values:
            Block(**values)
            continue
        if name in PARTS:
            for part in values.values():
                PARTS[name](**part)
            continue
        if name == "starts":  # of a preset: network -> start
            assert set(values.values()) <= set(read_family(ROOT / "params", "starts"))
            continue
        settings = {key: value for key, value in values.items() if key != "kind"}
        kind = values.get("kind", name)
        if kind in MODULES:
            continue  # an example, tested below
        families = [each.load() for each in FAMILIES.values() if each.package]
        kinds = [each.get(kind) for each in families if kind in each.names()]
        assert kinds, f"{name}: no family has the kind {kind!r}"
        assert any(accepts(each, settings) for each in kinds), name


def accepts(item: object, settings: dict) -> bool:
    """Return whether the kind takes these settings."""
    try:
        item.validate(settings, "the page")
    except ValueError:
        return False
    return True


PATH = re.compile(r"`((?:src|tests|benchmarks|params|profiles|workflow|docs)/[^`<>*\s]+)`")


@pytest.mark.parametrize(
    ("page", "path"),
    sorted({(page, found[1]) for page, text in PAGES.items() for found in PATH.finditer(text)}),
)
def test_path_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists() or path.endswith("NAME.yaml")


def test_every_link_to_a_file_of_the_repository_from_outside_the_site_leads_somewhere() -> None:
    for page in ("README.md", "data/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


# --- Python ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", sorted({page for page, text in blocks("python") if not MODULE.match(text)})
)
def test_python_of_a_page_runs_from_top_to_bottom(page: str) -> None:
    space: dict = {"__name__": "example"}
    for where, text in blocks("python"):
        if where == page and not MODULE.match(text):
            exec(compile(text, page, "exec"), space)


def taken(name: str, registry: Registry) -> object:
    """Run the block `name` as a module; return the item that it registered, and take it out."""
    if name in registry.names():  # the package's own modules first
        pytest.skip(f"somebody followed the page: {name} is in the package")
    exec(compile(MODULES[name], f"{name}.py", "exec"), {"__name__": f"example_{name}"})
    item = registry.get(name)
    del registry._items[name]
    return item


def test_the_pages_have_the_examples() -> None:
    assert set(MODULES) == {"focal", "mae", "mirror", "stills"}


@pytest.mark.parametrize(("tests", "names"), [("methods", "focal or mae"), ("noise", "mirror")])
def test_examples_pass_the_contract_tests(tests: str, names: str, tmp_path: Path) -> None:
    """The pages promise that the contract tests take an added file as it is."""
    wanted = names.split(" or ")
    registry = {"methods": METHODS, "noise": NOISE}[tests]
    outside = [name for name in wanted if name not in registry.names()]  # of who followed the page
    for name in outside:
        (tmp_path / f"example_{name}.py").write_text(MODULES[name], encoding="utf-8")
    plugins = [word for name in outside for word in ("-p", f"example_{name}")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "no:cacheprovider"]
        + [f"tests/contract/test_{tests}.py", "-k", names],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= 5 * len(wanted)


def test_method_example_is_cross_entropy_without_its_factor_and_ignores_void() -> None:
    item = taken("focal", METHODS)
    logits = (
        torch.randn(2, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        .float()
        .requires_grad_()
    )
    target = torch.zeros(2, 5, 6, dtype=torch.long)
    target[:, 2:] = 1
    target[:, 4] = 255
    plain = item.build(item.settings(gamma=0.0), None).terms(
        logits, target, num_objects=torch.tensor([2, 2])
    )["total"]
    expected = torch.nn.functional.cross_entropy(logits, target, ignore_index=255)
    assert plain.item() == pytest.approx(expected.item(), rel=1e-6)
    item.build(item.settings(), None).terms(logits, target, num_objects=torch.tensor([1, 2]))[
        "total"
    ].backward()
    assert logits.grad[:, :, 4].abs().sum() == 0
    assert logits.grad[0, 2].abs().sum() == 0
    assert torch.isfinite(logits.grad).all()


def test_short_method_example_is_the_mean_of_what_the_label_lacks() -> None:
    item = taken("mae", METHODS)
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    target = torch.ones(2, 4, 5, dtype=torch.long)
    target[:, 0] = 255
    found = item.build(item.settings(), None).terms(
        logits, target, num_objects=torch.tensor([2, 2])
    )["total"]
    expected = (1 - logits.softmax(1)[:, 1, 1:]).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_noise_example_mirrors_and_keeps_void() -> None:
    item = taken("mirror", NOISE)
    mask = np.zeros((4, 6), np.uint8)
    mask[1, :2], mask[3, 5] = 1, 255
    video = Video("mirror", 0, ("d", "s"), ("00000",), (mask,))
    always, never = (item.build(video, item.settings(rate=rate)) for rate in (1.0, 0.0))
    assert (always.masks[0][1] == [0, 0, 0, 0, 1, 1]).all()
    assert always.masks[0][3, 5] == 255
    assert always.affected == {(0, 1)}
    assert (never.masks[0] == mask).all()


def test_dataset_example_makes_a_dataset_that_reads_back(tmp_path: Path) -> None:
    item = taken("stills", DATASETS)
    (tmp_path / "raw").mkdir()
    mask = np.zeros((8, 9), np.uint8)
    mask[2:4] = 3
    (tmp_path / "raw/cat.jpg").write_bytes(encode_frame(np.full((8, 9, 3), 50, np.uint8)))
    (tmp_path / "raw/cat.png").write_bytes(encode_mask(mask))
    (tmp_path / "out").mkdir()
    assert (
        item.build(
            Conversion("pets", tmp_path / "raw", tmp_path / "out"), item.settings(source="pets")
        )
        == "1 stills"
    )
    dataset = VideoDataset(tmp_path / "out")
    assert dataset.sequences["cat"].objects == (3,)
    assert (dataset.read_mask("cat", "00000") == mask).all()
