"""The results folder that tests of tables, figures and page share."""

from pathlib import Path

import pytest
from report_workspace import make_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two videos, one method, clean and dilated labels, two seeds, both baselines, all scored."""
    return make_workspace(tmp_path)
