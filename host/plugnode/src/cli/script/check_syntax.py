"""Checks the syntax of a program in the Python runtime, without running it: of the main file, and of the modules that it imports.

Exits with the first error as JSON. Runs as the first file of a component; the program's files follow."""

import ast
import json

from wit_world.imports import source

_, main, *modules = source.names()


def fail(file, line, column, message):
    raise SystemExit(json.dumps({"file": file, "line": line, "column": column, "message": message}))


def imported(tree, file):
    """The names of the modules that a file imports, with dots."""
    package = file.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def files_of(module):
    """The program's files of a module, and of the packages that it is in."""
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        yield from (file for file in (f"{path}.py", f"{path}/__init__.py") if file in modules)


waiting = [main]
checked = set()
while waiting:
    file = waiting.pop()
    if file in checked:
        continue
    checked.add(file)
    try:
        text = bytes(source.read(file)).decode("utf-8")
        tree = ast.parse(text, file)
        compile(tree, file, "exec")
    except SyntaxError as error:
        fail(file, error.lineno or 1, error.offset or 1, f"{type(error).__name__}: {error.msg}")
    except ValueError as error:
        fail(file, 1, 1, str(error))
    for module in imported(tree, file):
        waiting.extend(files_of(module))
