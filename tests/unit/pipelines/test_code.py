"""Code versions: they change with what the project's own modules say, and with nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rdv.errors import UsageError
from rdv.pipelines.code import code_version, project_modules

FILES = {
    "tasks.py": "import numpy\nfrom lib import shared\nfrom lib.deep.inner import value\n\ndef f():\n    import late\n",
    "lib/__init__.py": "",
    "lib/shared.py": "from . import sibling\n",
    "lib/sibling.py": "X = 1\n",
    "lib/deep/__init__.py": "",
    "lib/deep/inner.py": "from .. import other\nvalue = 1\n",
    "lib/other.py": "import tasks\n",
    "late.py": "Y = 1\n",
    "unused.py": "Z = 1\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of a few modules."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_imports_are_followed_within_the_project(project: Path) -> None:
    """Every module of the project that can be reached is found: packages, relative imports, late ones, rings."""
    found = {path.relative_to(project).as_posix() for path in project_modules("tasks", project).values()}
    assert found == set(FILES) - {"unused.py"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_version_changes_with_every_module_that_is_used(project: Path, name: str) -> None:
    """A change in a module that the task reaches changes the version; one elsewhere does not."""
    before = code_version("tasks", project, "1")
    (project / name).write_text(FILES[name] + "A = 2\n")
    assert (code_version("tasks", project, "1") != before) == (name != "unused.py")


def test_the_version_does_not_depend_on_the_place(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same project elsewhere has the same version."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name, text in FILES.items():
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text(text)
    assert code_version("tasks", elsewhere, "1") == code_version("tasks", project, "1")


def test_a_task_of_ours_counts_by_its_own_version(tmp_path: Path) -> None:
    """Built-in tasks are no modules of the project: only their explicit version counts."""
    assert project_modules("rdv.pipelines.train", tmp_path) == {}
    assert code_version("rdv.pipelines.train", tmp_path, "1") == code_version("rdv.other", tmp_path, "1")
    assert code_version("rdv.pipelines.train", tmp_path, "1") != code_version("rdv.pipelines.train", tmp_path, "2")


def test_threads_may_ask_at_once(project: Path) -> None:
    """Many threads get the same version of the same code, none of them an error."""
    deep = "\n".join(f"X{n} = {'(' * 40}{n}{')' * 40}" for n in range(200))
    (project / "late.py").write_text(deep)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: code_version("tasks", project, "1"), range(32)))) == 1


def test_a_file_that_does_not_parse_is_named(project: Path) -> None:
    """A syntax error is told with its file, before anything runs."""
    (project / "late.py").write_text("def (:\n")
    with pytest.raises(UsageError, match=r"late\.py"):
        code_version("tasks", project, "1")
