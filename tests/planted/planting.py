"""Plant a bug into a copy of the package, and see whether the suite finds it.

A suite is only worth what it catches: each `Bug` is a small, plausible mistake against one promise, and the tests named
with it must fail and name that promise (an invariant, or the golden transcript or test that tells it).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
COPIED = ("ffd", "tests/core", "tests/golden", "tests/sim", "tests/daemon")
TIMEOUT_S = 120


class Bug(NamedTuple):
    """`old` stands exactly once in `file` (under ffd/) and is replaced by `new`. `tests`: what pytest runs. `told`:
    what its output must name."""

    name: str
    told: str
    file: str
    old: str
    new: str
    tests: str


def plant(bug: Bug, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of a bug against a copy that has it, made in `folder`."""
    copy(folder)
    path = folder / "ffd" / bug.file
    text = path.read_text()
    assert text.count(bug.old) == 1, f"{bug.name}: its old text stands {text.count(bug.old)} times in {bug.file}"
    path.unlink()  # the original is linked, not copied
    path.write_text(text.replace(bug.old, bug.new))
    return run(folder, bug.tests)


def copy(folder: Path) -> None:
    """The package and the tests of its core, as they are."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, copy_function=os.link)  # compiled files stay valid
    shutil.copy(ROOT / "pyproject.toml", folder)


def run(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=short", *tests.split()]
    own = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "FFD_PLANTED": "1"}
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **own},
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
