"""Three lists of dependencies agree: ranges of pyproject, pins, the conda environment."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def pins() -> dict[str, str]:
    """Return the pinned versions by normalised name."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pairs = [
        re.split("={2,3}", line, maxsplit=1) for line in lines if line and not line.startswith("#")
    ]
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    """Return a distribution name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ranges() -> list[Requirement]:
    """Return every requirement that `make` must install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [
        Requirement(text)
        for text in project["dependencies"] + extras["pipeline"] + extras["dev"] + extras["docs"]
    ]


@pytest.mark.parametrize("requirement", ranges(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_inside_its_range(requirement: Requirement) -> None:
    version = pins().get(normal(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements.txt"
    assert Version(version) in requirement.specifier


def test_conda_environment_has_the_pinned_versions() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    listed = {
        normal(name): version
        for name, version in (re.split("={2,3}", line, maxsplit=1) for line in pip)
    }
    assert listed == {
        normal(requirement.name): pins()[normal(requirement.name)] for requirement in ranges()
    }


def test_conda_environment_has_a_python_that_the_package_allows() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = [
        entry.partition("=")[2]
        for entry in environment["dependencies"]
        if str(entry).startswith("python=")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Version(python) in Requirement(f"python{project['requires-python']}").specifier


def test_pins_name_no_addresses() -> None:
    text = (ROOT / "requirements.txt").read_text() + (ROOT / "environment.yml").read_text()
    assert "://" not in text
    assert "@" not in text
