"""The workflow document: from what users write to a `Spec`, with every fault at once, each at its place.

- `compile_document(mapping)` -> `Compiled(spec, faults, warnings)`: the one validator, for files, CLI, gRPC, HTTP,
  Python.
- `render(fault, source_lines, filename)`: how a fault looks on a terminal.
- `resolve_params(spec, given)`: the values of one submit, checked against the declarations.
- `json_schema()`: the schema that editors read. `render_graph(spec)`, `summary(spec)`: what `ffd graph` and `explain`
  show.

Reading text (YAML, JSON) is not done here: see `ffd/api/source.py`. Nothing here does I/O.
"""

from ffd.core.document.compile import Compiled, compile_document, compile_raw
from ffd.core.document.faults import Fault, Locate, Path, clean, render, show_path
from ffd.core.document.graph import render_graph
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.params import resolve_params
from ffd.core.document.raw import RawDocument
from ffd.core.document.schema import json_schema
from ffd.core.document.summary import Summary, summary

__all__ = [
    "Compiled",
    "DocumentLimits",
    "Fault",
    "Locate",
    "Path",
    "RawDocument",
    "Summary",
    "clean",
    "compile_document",
    "compile_raw",
    "json_schema",
    "render",
    "render_graph",
    "resolve_params",
    "show_path",
    "summary",
]
