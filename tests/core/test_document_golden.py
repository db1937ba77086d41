"""Golden transcripts of faults: each file holds one rule in prose, a document, and all that is said about it.

After an intended change, `FFD_UPDATE_GOLDEN=1 pytest tests/core/test_document_golden.py` writes them anew: read the
diff as prose.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ffd.api.source import compile_source, source_lines
from ffd.core.document import render

FOLDER = Path(__file__).parent.parent / "golden" / "document"
FILES = sorted(FOLDER.glob("*.txt"))
SECTION = re.compile(r"^--- (.*)\n", re.MULTILINE)


def transcript(text: str) -> str:
    prose, filename, source, *_ = SECTION.split(text)
    compiled = compile_source(source.encode(), filename)
    lines = source_lines(source.encode())
    parts = [prose, f"--- {filename}\n{source}"]
    for title, faults in (("faults", compiled.faults), ("warnings", compiled.warnings)):
        if faults:
            parts.append(f"--- {title}\n" + "".join(render(fault, lines, filename) + "\n" for fault in faults))
    return "".join(parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    expected = path.read_text()
    found = transcript(expected)
    if os.environ.get("FFD_UPDATE_GOLDEN"):
        path.write_text(found)
    assert found == expected


def test_there_are_transcripts() -> None:
    assert len(FILES) > 25


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_transcript_holds_a_control_character(path: Path) -> None:
    faults = path.read_text().partition("--- faults\n")[2]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", faults)
