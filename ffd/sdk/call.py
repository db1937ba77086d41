"""Runs a `call:` task: `python -m ffd.sdk.call module:function`, with keyword arguments from `$FFD_WITH_FILE` (JSON).

What the function returns becomes outputs, in `$FFD_OUTPUT`: of a dict each key, anything else but None as `result`.
An async function is run to its end. What it raises is shown as its own traceback, without the frames of this file, and
ends in exit code 1. Needs no daemon. Imported by nobody: runtimes start it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ffd.errors import FfdError, Refusal
from ffd.sdk import set_output
from ffd.sdk.context import read_env
from ffd.sdk.files import MAX_OUTPUT_FILE_BYTES, OutputFile
from ffd.sdk.lines import notice
from ffd.sdk.values import check_name, encode

MAX_ARGUMENTS_BYTES = 4 << 20


def main(argv: list[str]) -> int:
    """Exit code: 0, or 1 when the function cannot be found or called, or returned what is no output. What the user's
    code raises goes through, to `show_fault`."""
    try:
        if len(argv) != 1:
            raise Refusal("usage: python -m ffd.sdk.call module:function")
        function = find(argv[0])
        arguments = read_arguments(os.environ.get("FFD_WITH_FILE", ""))
        check_arguments(function, argv[0], arguments)
    except Refusal as fault:
        return _refused(fault)
    result = function(**arguments)
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    try:
        publish(result, argv[0])
    except FfdError as fault:
        return _refused(fault)
    return 0


async def _awaited(result: Any) -> Any:
    return await result


def _refused(fault: FfdError) -> int:
    notice(fault.message + (f" ({fault.hint})" if fault.hint else ""))
    return 1


def find(target: str) -> Callable[..., Any]:
    """The function of `module:function`, imported with the working directory first on the path."""
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise Refusal(f"{target[:200]!r} is not module:function")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as fault:
        if fault.name is None or not f"{module_name}.".startswith(f"{fault.name}."):
            raise  # the module is there; what it imports is not
        hint = "it must be installed, or importable from the task's working directory"
        raise Refusal(f"there is no module {fault.name} to call", hint=hint) from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise Refusal(f"{module_name} has no {path}")
        found = getattr(found, name)
    if not callable(found):
        raise Refusal(f"{target} is not a function, it is a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def read_arguments(path: str) -> dict[str, Any]:
    """The keyword arguments; none when there is no file named."""
    if not path:
        return {}
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_ARGUMENTS_BYTES + 1)
        if len(data) > MAX_ARGUMENTS_BYTES:
            raise Refusal(f"FFD_WITH_FILE is over the limit MAX_ARGUMENTS_BYTES = {MAX_ARGUMENTS_BYTES}", code="limit")
        arguments = json.loads(data)
    except (OSError, ValueError) as fault:
        raise Refusal(f"FFD_WITH_FILE cannot be read: {fault}") from None
    if not isinstance(arguments, dict):
        raise Refusal("FFD_WITH_FILE must hold a JSON object")
    return arguments


def check_arguments(function: Callable[..., Any], target: str, arguments: dict[str, Any]) -> None:
    """Refuse what the function does not take, in words, before it runs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without one: it will say so itself
        return
    try:
        signature.bind(**arguments)
    except TypeError as fault:
        raise Refusal(f"{target}{signature}: {fault}", hint="see the task's `with`") from None


def publish(result: Any, target: str) -> None:
    """Set the outputs: one JSON object when `$FFD_OUTPUT` is untouched, else one by one after what is there. Where
    torchrun starts several processes per replica, which share the file, the first one speaks."""
    if result is None or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    outputs = result if isinstance(result, dict) else {"result": result}
    texts = {
        check_name(name, f"an output's name (a key of what {target} returned)"): encode(value, f"output {name}")
        for name, value in outputs.items()
    }
    file = OutputFile(read_env().output_path)
    if file.is_given and file.is_empty():
        whole = "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}"
        if len(whole.encode()) > MAX_OUTPUT_FILE_BYTES:
            message = f"what {target} returned is over the limit MAX_OUTPUT_FILE_BYTES = {MAX_OUTPUT_FILE_BYTES}"
            raise Refusal(message, code="limit", field="MAX_OUTPUT_FILE_BYTES")
        file.write_object(whole)
    else:
        for name, value in outputs.items():
            set_output(name, value)


def show_fault(kind: type[BaseException], fault: BaseException, frames: TracebackType | None) -> None:
    """The traceback as the user knows it: without the frames that led from here to the user's code."""
    rest = frames
    while rest is not None:
        if rest.tb_frame.f_code.co_filename == __file__:
            frames = rest.tb_next
        rest = rest.tb_next
    while frames is not None and "importlib" in frames.tb_frame.f_code.co_filename:
        frames = frames.tb_next
    traceback.print_exception(kind, fault, frames)


if __name__ == "__main__":
    sys.excepthook = show_fault
    sys.exit(main(sys.argv[1:]))
