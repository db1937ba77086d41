"""Each bug that is planted into the core is found, by the test that tells of its promise."""

from __future__ import annotations

from pathlib import Path

import core_bugs
import place_bugs
import pytest
from planting import Bug, copy, plant, run

BUGS = core_bugs.BUGS + place_bugs.BUGS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_found(bug: Bug, tmp_path: Path) -> None:
    found = plant(bug, tmp_path)
    assert found.returncode == 1, f"nobody found it: {found.stdout[-2_000:]}{found.stderr[-2_000:]}"
    assert bug.told in found.stdout, f"found, but {bug.told} is not named: {found.stdout[-3_000:]}"


def test_the_copy_is_sound_without_them(tmp_path: Path) -> None:
    copy(tmp_path)
    tests = dict.fromkeys(test for bug in BUGS for test in bug.tests.split())
    found = run(tmp_path, " ".join(tests))
    assert found.returncode == 0, found.stdout[-3_000:]
