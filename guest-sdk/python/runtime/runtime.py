"""The Python runtime: a handler component that runs a program. The program's files are sections of the component; the first one runs
when an instance starts."""

# Imported when the component is built, because an instance has no file system to import modules from.
import abc, argparse, array, ast, base64, binascii, bisect, calendar, cmath, collections, collections.abc, colorsys  # noqa: E401, F401
import contextlib, contextvars, copy, csv, dataclasses, datetime, decimal, difflib, enum, fnmatch, fractions, functools, gc  # noqa: E401, F401
import graphlib, hashlib, heapq, hmac, html, html.parser, inspect, io, ipaddress, itertools, json, keyword, linecache, locale  # noqa: E401, F401
import logging, math, numbers, operator, os, pprint, queue, random, re, reprlib, secrets, shlex, statistics, string  # noqa: E401, F401
import struct, sys, textwrap, threading, time, timeit, token, tokenize, traceback, types, typing, unicodedata, urllib.parse, uuid  # noqa: E401, F401
import warnings, weakref, zlib, zoneinfo  # noqa: E401, F401
import importlib.abc
import importlib.util
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import logging as host_log
from wit_world.imports import source
from wit_world.imports import types as contract

import plugnode
from plugnode import _app

_LEVELS = {
    logging.DEBUG: host_log.Level.DEBUG,
    logging.INFO: host_log.Level.INFO,
    logging.WARNING: host_log.Level.WARN,
    logging.ERROR: host_log.Level.ERROR,
    logging.CRITICAL: host_log.Level.CRITICAL,
}


class _HostLog(logging.Handler):
    """Writes records of `logging` to the host's log."""

    def emit(self, record: logging.LogRecord) -> None:
        level = _LEVELS.get(record.levelno, host_log.Level.INFO)
        host_log.log(level, record.name, self.format(record))


class _Files(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the program's other files: `helpers.py`, `shop/__init__.py`, `shop/cart.py`."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        path_name = name.replace(".", "/")
        for file, is_package in ((f"{path_name}/__init__.py", True), (f"{path_name}.py", False)):
            if file in self._files:
                return importlib.util.spec_from_loader(name, self, origin=file, is_package=is_package)
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None and spec.origin is not None, "find_spec names the file"
        file = spec.origin
        _run(self._files[file], file, module.__dict__)


def _run(text: str, file: str, names: dict[str, Any]) -> None:
    # Lets tracebacks show source lines.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    names["__file__"] = file
    exec(compile(text, file, "exec"), names)


#: Errors that are shown of a group and of a chain of causes.
_MAX_ERRORS = 5

#: What the host's refusals mean that have no text of their own.
_REFUSALS = {
    "Error_QuotaExceeded": "this event has used up its commands, writes or bytes: do less in one event, or raise limits.commands or "
    "limits.bytes of the [[app]]",
    "Error_PayloadTooLarge": "the payload is larger than limits.payload of the [[app]]",
    "Error_NoSuchStore": "the key-value bucket is not granted: add it to `keyvalue` in the app's `grants`",
    "Error_AccessDenied": "the key-value bucket is not granted: add it to `keyvalue` in the app's `grants`",
}


def _format(error: BaseException, files: dict[str, str]) -> str:
    """The error with its causes, and its stack frames in the program's own files."""
    return "\n".join(_explain(error, files, [_MAX_ERRORS]))


def _explain(error: BaseException, files: dict[str, str], left: list[int]) -> list[str]:
    """`left` is the number of errors that may still be shown."""
    left[0] -= 1
    lines = _message(error)
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if frame.filename in files][-10:]
    for frame in frames:
        lines.append(f"    at {frame.name} ({frame.filename}:{frame.lineno})")
        if frame.line:
            lines.append(f"        {frame.line}")
    code = _app.code_of_listener()
    if not frames and code is not None and left[0] == _MAX_ERRORS - 1:
        lines.append(f"    in {code.co_name} ({code.co_filename}:{code.co_firstlineno})")
    related = [("one of them is", inner) for inner in error.exceptions] if isinstance(error, BaseExceptionGroup) else []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        related.append(("caused by", cause))
    for relation, inner in related:
        if left[0] > 0:
            first, *rest = _explain(inner, files, left)
            lines += [f"  {relation} {first}", *rest]
    return lines


def _message(error: BaseException) -> list[str]:
    if isinstance(error, Err):
        refusal = error.value
        text = _REFUSALS.get(type(refusal).__name__) or getattr(refusal, "value", refusal)
        return [str(text)]
    lines = "".join(traceback.format_exception_only(error)).rstrip("\n").split("\n")
    if isinstance(error, ModuleNotFoundError):
        hint = "it is not part of plugnode's Python, which has no sockets, processes and event loop; other modules are files beside the program"
        lines.append(f"  {hint}")
    return lines


class _Program:
    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.is_running = False
        #: Whether the program has changed what this file relies on, such as built-in functions.
        self.is_damaged = False

    def start(self, config: list[tuple[str, str]]) -> None:
        # Otherwise every instance would have the random state from the build of the component.
        random.seed()
        plugnode.config.update(config)
        logging.basicConfig(handlers=[_HostLog()], level=logging.INFO, format="%(message)s")
        names = source.names()
        if not names:
            raise Err("this component has no program: build it with plugnode build app.py")
        for name in names:
            self.files[name] = bytes(source.read(name) or b"").decode("utf-8")
        sys.meta_path.insert(0, _Files(self.files))
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        try:
            _run(self.files[names[0]], names[0], main.__dict__)
        except BaseException as error:
            raise Err(_format(error, self.files)) from None
        self.is_running = True

    def handle(self, event: contract.Event, context: contract.Context) -> None:
        if self.is_damaged:
            # Ends the instance. The host handles the event again in a new one.
            os.write(2, b"an earlier event changed built-in functions; a new instance takes the place of this one\n")
            os._exit(1)
        if not self.is_running:
            self.start([])
        try:
            _app.handle(event, context)
        except plugnode.Retry as error:
            raise Err(contract.HandlerError_Retry(_format(error, self.files))) from None
        except BaseException as error:
            raise Err(contract.HandlerError_Reject(self.explain(error))) from None

    def explain(self, error: BaseException) -> str:
        try:
            return _format(error, self.files)
        except BaseException:
            self.is_damaged = True
            return type(error).__name__ + ": it cannot be shown, because the program has changed built-in functions"


_program = _Program()


class Handler(exports.Handler):
    def handle(self, ev: contract.Event, ctx: contract.Context) -> None:
        _program.handle(ev, ctx)


class Lifecycle(exports.Lifecycle):
    def start(self, config: list[tuple[str, str]]) -> None:
        _program.start(config)

    def stop(self) -> None:
        pass
