"""A `record` that is killed while dvc.lock is written leaves it as it was."""

from pathlib import Path

import pytest

from noisyvos.pipeline import handover


@pytest.mark.parametrize("before", ["schema: '2.0'\nstages: {}\n", None])
def test_a_half_written_lock_file_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    lock = Path("dvc.lock")
    if before is not None:
        lock.write_text(before)
    handover._keep_lock_file()
    lock.write_text("schema: '2.0'\nstag")  # here the process is killed
    handover._put_back()
    assert (lock.read_text() if lock.exists() else None) == before
    assert list(Path("scratch").iterdir()) == []
    lock.write_text("later")
    handover._put_back()  # nothing is kept any more
    assert lock.read_text() == "later"
