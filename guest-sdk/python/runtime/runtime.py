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


def _format(error: BaseException, files: dict[str, str]) -> str:
    """The error, and its stack frames in the program's own files."""
    lines = [line.rstrip("\n") for line in traceback.format_exception_only(error)]
    stack = traceback.extract_tb(error.__traceback__)
    for frame in [frame for frame in stack if frame.filename in files][-10:]:
        lines.append(f"    at {frame.name} ({frame.filename}:{frame.lineno})")
        if frame.line:
            lines.append(f"        {frame.line}")
    return "\n".join(lines)


class _Program:
    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.is_running = False

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
        if not self.is_running:
            self.start([])
        try:
            _app.handle(event, context)
        except plugnode.Retry as error:
            raise Err(contract.HandlerError_Retry(_format(error, self.files))) from None
        except BaseException as error:
            raise Err(contract.HandlerError_Reject(_format(error, self.files))) from None


_program = _Program()


class Handler(exports.Handler):
    def handle(self, ev: contract.Event, ctx: contract.Context) -> None:
        _program.handle(ev, ctx)


class Lifecycle(exports.Lifecycle):
    def start(self, config: list[tuple[str, str]]) -> None:
        _program.start(config)

    def stop(self) -> None:
        pass
