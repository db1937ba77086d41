"""Generates the Python code of `ffd/v1/*.proto`, in place: messages, their types, and grpclib stubs.

Run it after changing a .proto and commit the result: `python -m ffd.proto.generate`. Needs grpcio-tools at exactly the
pinned version (an old protoc on purpose: its code loads on newer protobuf runtimes, not the reverse). A test holds that
the committed code is what this generates.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parent
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_grpc.py")


def generate(into: Path) -> None:
    """Write the generated code of all protos below `into`, at the same relative paths. RuntimeError: protoc failed."""
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ffd/v1/*.proto"))
    plugin = Path(sys.executable).parent / "protoc-gen-grpclib_python"  # of this environment, also when not on PATH
    arguments = ["protoc", f"--plugin={plugin}", f"-I{ROOT}", f"-I{files('grpc_tools') / '_proto'}"]
    arguments += [f"--python_out={into}", f"--pyi_out={into}", f"--grpclib_python_out={into}", *protos]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; its messages are above")
    for path in generated(into):
        code = relocate(path.read_text())
        if path.name.endswith("_grpc.py") and "class " not in code:
            path.unlink()  # a proto without services
        else:
            path.write_text(code)


def generated(root: Path) -> list[Path]:
    """The generated files below `root`, sorted."""
    return sorted(path for path in (root / "ffd/v1").iterdir() if path.name.endswith(SUFFIXES))


def relocate(code: str) -> str:
    """The protos live in the package path `ffd/v1`, their Python code in the package `ffd.proto.ffd.v1`."""
    code = re.sub(r"^from ffd\.v1 import", "from ffd.proto.ffd.v1 import", code, flags=re.MULTILINE)
    return re.sub(r"(?<![\w./'])ffd\.v1\.(\w+_pb2)\b", r"ffd.proto.ffd.v1.\1", code)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        for path in generated(Path(scratch)):
            (ROOT / path.relative_to(scratch)).write_text(path.read_text())
            print(path.relative_to(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
