"""Texts of a document: `${{ }}` cut out of scripts, arguments, variables and files, and noted down as `Site`s.

What the expressions mean is checked later, when all names are known (`expressions.py`). Called by `tasks.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ffd.core.document.faults import Faults, Path
from ffd.core.document.limits import DocumentLimits
from ffd.core.document.raw import Scalar
from ffd.core.document.scalars import Wrong, check_json
from ffd.core.document.script import compile_script
from ffd.core.document.shell import Place
from ffd.core.expr import Expect, ExprError, parse_text, render_string
from ffd.core.spec import Template, Text

_NOTHING: dict[str, Any] = {}


class Site(NamedTuple):
    """One expression of the document. `once`: evaluated once per task (`when`, `foreach`), else per item.

    `template` counts the expressions of one text from 1; 0 = the text is the expression. `place` says where in a shell
    script it stands; "" elsewhere.
    """

    task: str
    path: Path
    source: str
    expect: Expect
    once: bool
    template: int = 0
    place: Place | str = ""


class TextReader:
    """Collects the expressions of one document in `sites`, in the order in which they are read."""

    def __init__(self, faults: Faults, limits: DocumentLimits) -> None:
        self.faults = faults
        self.limits = limits
        self.sites: list[Site] = []

    def text(self, name: str, value: Scalar, path: Path) -> Text:
        """A value that may hold `${{ }}`; numbers and booleans become text, as JSON writes them."""
        self.check(value, path)
        if not isinstance(value, str):
            return render_string(value)
        if "${{" not in value or not self._may_add_sites(path):
            return value
        try:
            text = parse_text(value)
        except ExprError as error:
            self._template_faults(error, value, path)
            return value
        if isinstance(text, Template):
            sources = enumerate(text.expressions, 1)
            self.sites += [Site(name, path, source, "any", False, number) for number, source in sources]
        return text

    def _may_add_sites(self, path: Path) -> bool:
        limit = self.limits.expressions_count
        if len(self.sites) < limit:
            return True
        self.faults.add(path, f"more than {limit} expressions (limit expressions_count)", code="limit")
        return False

    def check(self, value: Scalar, path: Path) -> None:
        """What any text must be: not too long, no NUL, valid Unicode; a number in its place must be finite."""
        if not isinstance(value, str):
            self._check_json(value, path)
            return
        if len(value) > self.limits.string_bytes:
            limit = f"{self.limits.string_bytes} bytes (limit string_bytes)"
            self.faults.add(path, f"a text of {len(value)} characters, at most {limit} are allowed", code="limit")
        if "\0" in value:
            self.faults.add(path, "the text holds a NUL character, which no process can be given")
        if not value.isascii():
            self._check_json(value, path)

    def _template_faults(self, error: ExprError, source: str, path: Path) -> None:
        for problem in error.problems:
            text = source[max(problem.offset, 0) :].partition("\n")[0][:60]
            self.faults.add(path, problem.message, hint=problem.hint, text=text, code="expression")

    def expression(self, source: str, path: Path) -> str:
        """The CEL source of a field that is an expression: bare, or wrapped in `${{ }}`."""
        self.check(source, path)
        try:
            text = parse_text(source.strip())
        except ExprError as error:
            self._template_faults(error, source, path)
            return ""
        if isinstance(text, Template):
            if text.parts[0] or text.parts[2:] != ("",):
                self.faults.add(path, "expected one expression, got a text around `${{ }}`", code="expression")
                return ""
            return text.parts[1]
        if not text:
            self.faults.add(path, "expected an expression, got an empty text", code="expression")
        return text

    def script(self, name: str, source: str, path: Path) -> tuple[str, dict[str, str]]:
        self.check(source, path)
        if not source.strip():
            self.faults.add(path, "expected a shell script, got an empty text")
        if "${{" not in source or not self._may_add_sites(path):
            return source, _NOTHING
        try:
            script = compile_script(source)
        except ExprError as error:
            self._template_faults(error, source, path)
            return source, _NOTHING
        for number, use in enumerate(script.uses, 1):
            self.sites.append(Site(name, path, use.source, "any", False, number, use.place))
        return script.text, script.bindings

    def deep(self, name: str, value: dict[str, Any], path: Path) -> dict[str, Any]:
        if not self._check_json(value, path):
            return _NOTHING
        return {key: self._deep_value(name, child, (*path, key)) for key, child in value.items()}

    def _deep_value(self, name: str, value: Any, path: Path) -> Any:
        """Plain JSON, in which a text with `${{ }}` stands as {"$cel": parts}."""
        if isinstance(value, str):
            text = self.text(name, value, path)
            return {"$cel": list(text.parts)} if isinstance(text, Template) else text
        if isinstance(value, list):
            return [self._deep_value(name, child, (*path, index)) for index, child in enumerate(value)]
        if isinstance(value, dict):
            if "$cel" in value:
                self.faults.add((*path, "$cel"), "the key `$cel` is reserved", key=True)
            return {key: self._deep_value(name, child, (*path, key)) for key, child in value.items()}
        return value

    def _check_json(self, value: Any, path: Path) -> bool:
        try:
            check_json(value, self.limits.depth_count)
        except Wrong as wrong:
            self.faults.add(path, wrong.message, hint=wrong.hint)
            return False
        return True
