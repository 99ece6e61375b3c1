"""Results through remotes: record, push, clone, pull, adopt, nothing to do; a folder and S3.

The bucket is on a local server. These tests need `pip install "moto[server]"` and the extra `s3`.
"""

import importlib.util
import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import stale_in_dvc, stale_in_snakemake

pytestmark = pytest.mark.xdist_group("agreement")  # tests that share fixture `ran`

S3 = all(importlib.util.find_spec(name) for name in ("moto", "flask", "dvc_s3"))


def clone_of(workspace: Any, folder: Path, remote: str, url: str, *options: str) -> Any:
    """Push from the workspace, clone its repository, pull there, and return the clone."""
    for name, value in [("url", url), *(option.split("=", 1) for option in options)]:
        if name == "url":
            workspace.run("dvc", "remote", "add", "--force", remote, value)
        else:
            workspace.run("dvc", "remote", "modify", remote, name, value)
    workspace.run("dvc", "push", "--remote", remote)
    workspace.run("git", "add", "--all")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    workspace.run("git", *identity, "commit", "--quiet", "--allow-empty", "-m", remote)
    workspace.run("git", "clone", "--quiet", ".", str(folder))
    there = type(workspace)(folder, workspace.path)
    there.noisyvos("grid", "--preset", "smoke")
    there.run("dvc", "pull", "--remote", remote)
    return there


def check(workspace: Any, there: Any) -> None:
    """The clone has the same files, and neither engine has anything to do there."""
    said = there.noisyvos("adopt").stdout
    count = json.loads(workspace.noisyvos("status", "--json").stdout)["totals"]["done"]
    assert f"adopted {count} of {count} cells" in said
    assert stale_in_snakemake(there) == set()
    assert stale_in_dvc(there) == set()
    assert "Nothing to be done" in there.run("snakemake", "--cores", "1").stderr
    for path in (workspace.root / "results").rglob("content"):
        other = there.root / path.relative_to(workspace.root)
        assert other.read_bytes() == path.read_bytes()
    # what was pulled has no record of Snakemake, and its origin is still known
    assert json.loads(there.noisyvos("why", "report", "--json").stdout)["changes"] == []


def test_through_a_folder(recorded: Any, tmp_path: Path) -> None:
    there = clone_of(recorded, tmp_path / "clone", "folder", str(tmp_path / "remote"))
    check(recorded, there)
    # stand-ins ran before the first commit, so no origin is known, and the trace says since when
    commit = there.run("git", "rev-parse", "HEAD").stdout.strip()
    found = json.loads(there.noisyvos("trace", "report", "--no-mlflow", "--json").stdout)["cells"]
    assert found[0]["commits"] == []
    assert found[0]["no_commit"].endswith(f"dvc.lock has them since commit {commit}")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Return the address of a local S3 server with the bucket `results`."""
    if not S3:
        pytest.skip('needs pip install ".[s3]" "moto[server]"')
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    for _ in range(50):
        try:
            request = urllib.request.Request(f"{address}/results", method="PUT")
            urllib.request.urlopen(request, timeout=5)
            break
        except OSError:
            time.sleep(0.1)
    yield address
    server.stop()


def test_through_s3(
    recorded: Any, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    options = (f"endpointurl={bucket}",)
    there = clone_of(recorded, tmp_path / "clone", "bucket", "s3://results/noisyvos", *options)
    check(recorded, there)


def test_repro_from_an_empty_folder(recorded: Any, tmp_path: Path) -> None:
    """DVC alone, without anything that Snakemake made, ends with the same bytes and record."""
    root = tmp_path / "fresh"
    skip = shutil.ignore_patterns(
        "data", "runs", "results", "logs", "scratch", ".snakemake", "cache", "tmp", "dvc.lock",
        ".git",
    )  # fmt: skip
    shutil.copytree(recorded.root, root, ignore=skip, symlinks=True)
    there = type(recorded)(root, recorded.path)
    there.run("git", "init", "--quiet")
    there.run("dvc", "repro", "--quiet")
    first, second = ((space.root / "dvc.lock").read_text() for space in (recorded, there))
    assert first == second
    assert "adopted" in there.noisyvos("adopt").stdout
    assert stale_in_snakemake(there) == set()


def test_an_experiment_changes_one_noise_level(recorded: Any, tmp_path: Path) -> None:
    """`+` in front of a key that the file leaves at its default; without it Hydra refuses."""
    root = tmp_path / "experiment"
    shutil.copytree(recorded.root, root, symlinks=True)
    there = type(recorded)(root, recorded.path)
    there.run("git", "add", "--all")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    there.run("git", *identity, "commit", "--quiet", "--allow-empty", "-m", "before")
    told = there.run("dvc", "exp", "run", "-S", "params/noise.yaml:+dilate70.rate=0.5")
    ran = {line.split("'")[1] for line in told.stdout.splitlines() if line.startswith("Running")}
    assert "noise@shapes_smoke_train-dilate70-s0" in ran
    assert not any(
        name.startswith(("convert", "pretrain", "train@shapes_smoke_train-clean")) for name in ran
    )
    assert "rate: 0.5" in (root / "params" / "noise.yaml").read_text()


def test_the_report_of_snakemake_has_categories_and_captions(recorded: Any) -> None:
    target = recorded.root / "snakemake-report.html"
    try:
        recorded.run("snakemake", "--report", target.name)
        page = target.read_text(encoding="utf-8")
    finally:
        target.unlink(missing_ok=True)
    assert '"Report"' in page
    assert "one page that needs no network" in page
    assert "Experiments on video object segmentation with noisy labels" in page
