"""Each bug that is planted into the shell is found, by the simulation or a test that names what was broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from planting import Bug, plant
from shell_bugs import BUGS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    found = plant(bug, tmp_path)
    assert found.returncode == 1, f"nobody found it: {found.stdout[-2_000:]}{found.stderr[-2_000:]}"
    assert bug.told in found.stdout, f"found, but {bug.told} is not named: {found.stdout[-3_000:]}"
