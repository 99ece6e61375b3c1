"""The page that `benchmarks/run.py` writes: one benchmark run again leaves the others."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Give the script with benchmarks that print at once."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import run

    def outcome(name: str, command: list[str]):
        return run.Outcome(name, f"python benchmarks/{command[0]}", 2.0, f"ratio of {name}", True)

    monkeypatch.setattr(run, "run", outcome)
    monkeypatch.setattr(run, "commit", lambda: "aaaaaaa")
    yield run
    del sys.modules["run"]


def write(bench, page: Path, monkeypatch: pytest.MonkeyPatch, *only: str) -> str:
    options = ["--out", str(page), "--material", str(page.parent)]
    monkeypatch.setattr(sys, "argv", ["run.py", *options, *(["--only", *only] if only else [])])
    assert bench.main() == 0
    return page.read_text()


def test_a_benchmark_run_again_leaves_the_others(bench, tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    whole = write(bench, page, monkeypatch)
    assert whole.count("measured at aaaaaaa") == 9  # three lack their material
    monkeypatch.setattr(bench, "commit", lambda: "bbbbbbb")
    slower = bench.Outcome("stm", "python benchmarks/stm.py", 3.0, "ratio of stm again", False)
    monkeypatch.setattr(bench, "run", lambda name, command: slower)
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(page), "--only", "stm"])
    assert bench.main() == 1
    again = page.read_text()
    assert "| [stm](#stm) | 3 | ratio of stm again | no |" in again
    assert "`python benchmarks/stm.py`, measured at bbbbbbb" in again
    assert "Measured at bbbbbbb, except for" in again
    whole_lines, lines = whole.splitlines(), again.splitlines()
    changed = set(lines) - set(whole_lines)
    assert len(changed) == 5  # head, row, command, text, and that a bar was missed
    assert [line for line in lines if line.startswith("## ")] == [
        line for line in whole_lines if line.startswith("## ")
    ]


def test_sections_of_an_older_page_get_its_commit(bench, tmp_path, monkeypatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Performance\n\n`make bench` writes this page. Measured at 1234567.\n\n"
        "| [xmem](#xmem) | 31 | ratio 0.80 | yes |\n| noise | | not run: why | |\n\n"
        "## xmem\n\n`python benchmarks/xmem.py`\n\n```\nratio 0.80\n```\n\n"
        "## noise\n\nNot run: why.\n"
    )
    text = write(bench, page, monkeypatch, "stm")
    assert "`python benchmarks/xmem.py`, measured at 1234567\n\n```\nratio 0.80\n```" in text
    assert "| noise | | not run: why | |" in text
    assert "## noise\n\nNot run: why.\n" in text
    assert text.index("[xmem]") < text.index("[stm]") < text.index("| noise |")
    assert write(bench, page, monkeypatch, "stm") == text


def test_an_unknown_benchmark_is_refused(bench, tmp_path, monkeypatch, capsys) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(page), "--only", "xmme"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "unknown benchmark xmme: choose of xmem," in capsys.readouterr().err
    assert not page.exists()
