"""Start-up stays cheap: what a verb does not need is not imported. Names, not times: those depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "asyncio", "anyio", "msgspec", "grpclib", "google", "rich", "yaml", "textual", "aiohttp", "cel_expr_python",
    "sqlite3",
}  # fmt: skip
CLIENT = {"asyncio", "anyio", "msgspec", "grpclib", "google"}
SCRIPT = """
import sys
from ffd.cli import main
try:
    main.main()
finally:
    print("MODULES", *sys.modules, file=sys.stderr)
"""


def imported(*arguments: str, **environment: str) -> set[str]:
    """Which of the heavy modules one call of ffd imports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
    )
    return HEAVY & {name.partition(".")[0] for name in done.stderr.rpartition("MODULES")[2].split()}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("version",), ("nonsense",), ("ls", "--help")])
def test_help_and_version_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported(*arguments) - {"msgspec"} == set()
    if arguments[0] != "ls":
        assert imported(*arguments) == set()


def test_ls_imports_the_client_and_no_more(tmp_path: Path) -> None:
    assert imported("ls", "--address", f"unix:{tmp_path}/none.sock") == CLIENT
