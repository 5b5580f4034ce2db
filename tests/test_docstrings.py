"""Habits that can be counted: tests that say what they promise, files of one duty."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {"links", "build", "dist"}
FILE_LINES = 400


def ours() -> list[Path]:
    """Every Python file of the project, relative to its root."""
    found = []
    for top in ROOT.iterdir():
        if top.is_dir() and not top.name.startswith(".") and top.name not in NOT_OURS:
            found += [path.relative_to(ROOT) for path in top.rglob("*.py")]
    return sorted(found)


def without_docstring(path: Path) -> list[str]:
    """Test functions of a file that do not say what they hold."""
    tree = ast.parse(ROOT.joinpath(path).read_text(), str(path))
    tests = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    )
    return [f"{path}:{node.lineno} {node.name}" for node in tests if not (ast.get_docstring(node) or "").strip()]


def test_every_test_states_its_promise() -> None:
    """Each test function has a docstring, so that a failure reads as a broken promise."""
    missing = [name for path in ours() if path.parts[0] == "tests" for name in without_docstring(path)]
    assert not missing, "tests without a docstring:\n" + "\n".join(missing)


@pytest.mark.parametrize("kind", ["rooms", "tests and tools"])
def test_files_have_one_duty(kind: str) -> None:
    """No Python file grows past 400 lines: a longer one is split by duty."""
    tools = {"tests", "benchmarks", "ci", "docs"}
    chosen = [path for path in ours() if (path.parts[0] in tools) == (kind == "tests and tools")]
    lengths = {path: len(ROOT.joinpath(path).read_text().splitlines()) for path in chosen}
    long = [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > FILE_LINES]
    assert not long, f"longer than {FILE_LINES} lines:\n" + "\n".join(long)
