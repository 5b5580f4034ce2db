"""Code versions: which of the project's own modules a task's module imports, and the hash over them.

Imports are read from the source, wherever they stand in a file; what is imported by a name computed at run time is
not seen. Libraries are not part of the version: their versions are recorded in the manifest.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

from rdv.errors import UsageError
from rdv.ids import digest_file

_PARSING = threading.Lock()


def project_modules(module: str, folder: Path) -> dict[str, Path]:
    """The project's modules that a module imports, itself among them, through any depth; empty if it is not ours.

    folder: the project's, where its top-level modules and packages lie. Raises UsageError for a file that does not
    parse.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if not name or name in found:
            continue
        file = _file_of(name, folder)
        if file is None:
            continue
        found[name] = file
        waiting.append(name.rpartition(".")[0])
        waiting.extend(_imported(name, file))
    return found


def code_version(module: str, folder: Path, version: str) -> str:
    """Forty hexadecimal digits over a task's explicit version and the project's modules that its module imports."""
    made_of = hashlib.sha256(f"version {version}\n".encode())
    for name, file in sorted(project_modules(module, folder).items()):
        made_of.update(f"{name} {digest_file(file)}\n".encode())
    return made_of.hexdigest()[:40]


def _file_of(module: str, folder: Path) -> Path | None:
    base = folder.joinpath(*module.split("."))
    for file in (base / "__init__.py", base.with_name(base.name + ".py")):
        if file.is_file():
            return file
    return None


def _imported(module: str, file: Path) -> Iterator[str]:
    try:
        # CPython 3.11 counts the depth of a tree per interpreter, not per thread: two threads that parse at once may
        # both fail with "AST constructor recursion depth mismatch".
        with _PARSING:
            tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{file.name} cannot be read as Python: {error}", "mend the file and run again") from None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names if alias.name != "*")


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    above = package.split(".") if package else []
    above = above[: len(above) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])
