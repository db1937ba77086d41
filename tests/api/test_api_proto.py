"""The committed protobuf code is what its .proto files generate."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ffd.proto import generate


def test_generated_code_is_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is a development dependency")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    generate.generate(tmp_path)
    fresh = {path.name: path.read_text() for path in generate.generated(tmp_path)}
    committed = {path.name: path.read_text() for path in generate.generated(generate.ROOT)}
    assert fresh.keys() == committed.keys()
    stale = [name for name, code in fresh.items() if committed[name] != code]
    assert not stale, f"run `python -m ffd.proto.generate` and commit: {stale}"
