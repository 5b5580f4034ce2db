"""What setup.cfg says against what the tree holds: an editable install hides every difference, a wheel does not."""

import configparser
import importlib.metadata
import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "core", "experiments", "backends", "pipelines", "serving", "releases", "cli", "nomad", "terraform",
    "nomad_templates", "terraform_rights", "gitlab_stages", "tests", "benchmarks", "ci", "docs",
}  # fmt: skip
# Top-level folders that may hold Python files and are not installed.
NOT_INSTALLED = {"tests", "benchmarks", "ci", "docs", "links", "build", "dist"}
# Import names of extras that need not be installed where the test runs.
CLIENTS = {"nomad", "consul", "hvac", "boto3", "botocore", "hdfs", "catboost", "pyarrow", "statsmodels", "adapters"}


def config() -> configparser.ConfigParser:
    """setup.cfg, read."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    return cfg


def mapping() -> dict[str, str]:
    """Folder of each mapped package."""
    lines = config()["options"]["package_dir"].strip().splitlines()
    return {name.strip(): folder.strip() for name, _, folder in (line.partition("=") for line in lines)}


def listed() -> list[str]:
    """Packages that setup.cfg names."""
    return config()["options"]["packages"].split()


def folder_of(package: str) -> Path:
    """Where a listed package lives: under the nearest mapped package above it."""
    base = max((name for name in mapping() if f"{package}.".startswith(f"{name}.")), key=len)
    return ROOT.joinpath(mapping()[base], *package[len(base) :].strip(".").split("."))


def top_folders() -> list[Path]:
    """Folders at the top that are ours: no hidden ones, no virtual environments, nothing generated."""
    return [
        path
        for path in sorted(ROOT.iterdir())
        if path.is_dir()
        and not path.name.startswith(".")
        and not path.name.endswith(".egg-info")
        and not (path / "pyvenv.cfg").exists()
    ]


def in_tree() -> set[str]:
    """Package names that the tree's folders amount to: each folder of a room with Python files in it."""
    found = set()
    for name, folder in mapping().items():
        for path in {file.parent for file in ROOT.joinpath(folder).rglob("*.py")}:
            found.add(".".join([name, *path.relative_to(ROOT / folder).parts]))
    return found


def test_packages_match_the_tree_both_ways() -> None:
    """Every folder of a room with Python files is a listed package, and every listed package exists."""
    assert sorted(listed()) == sorted(in_tree())


def test_packages_are_listed_once() -> None:
    """No package is named twice, in the list or through two mappings of one folder."""
    assert len(set(listed())) == len(listed())
    assert len(set(mapping().values())) == len(mapping())


def test_every_package_has_an_init() -> None:
    """No package is a namespace by accident: those are lost by editable installs and type checkers."""
    assert [name for name in listed() if not (folder_of(name) / "__init__.py").is_file()] == []


def test_every_room_is_mapped() -> None:
    """A top-level folder with Python files is a mapped room or one of the folders that are never installed."""
    mapped = {Path(folder) for folder in mapping().values()}
    for top in top_folders():
        if top.name in NOT_INSTALLED:
            continue
        stray = [
            file.relative_to(ROOT)
            for file in top.rglob("*.py")
            if not mapped & {parent.relative_to(ROOT) for parent in file.parents if parent.is_relative_to(ROOT)}
        ]
        assert stray == [], f"{top.name}/ is not in package_dir"


def test_folders_map_to_their_own_name() -> None:
    """Folder X is rdv.X; only core/ (rdv itself) and the folders of data below nomad/, terraform/ and ci/ differ."""
    odd = {
        "rdv": "core", "rdv.nomad_templates": "nomad/templates", "rdv.terraform_rights": "terraform/rights",
        "rdv.gitlab_stages": "ci/gitlab",
    }  # fmt: skip
    assert {n: f for n, f in mapping().items() if f != odd.get(n, n.removeprefix("rdv."))} == {}


def test_core_has_no_child_named_like_a_room() -> None:
    """core/serving.py or a leftover core/cli/ would hide rdv.serving or rdv.cli in an editable install."""
    assert [path.name for path in (ROOT / "core").iterdir() if path.name.split(".")[0] in ROOMS] == []


def test_no_folder_shadows_an_import() -> None:
    """No top-level package carries the name of a standard module or of something we depend on."""
    taken = set(sys.stdlib_module_names) | CLIENTS | {"rdv"}
    taken |= {name for name, owners in importlib.metadata.packages_distributions().items() if owners != ["rdv"]}
    ours = {path.name for path in top_folders() if (path / "__init__.py").exists()}
    assert ours & taken == set()


def test_nomad_is_no_package() -> None:
    """nomad/__init__.py would take the place of python-nomad's own package when run from the root."""
    assert not (ROOT / "nomad" / "__init__.py").exists()


def test_tests_are_no_package() -> None:
    """tests/ has no __init__.py, so that test files of one name may live in several folders."""
    assert [str(path) for path in (ROOT / "tests").rglob("__init__.py")] == []


@pytest.mark.parametrize("package", listed())
def test_data_files_ship(package: str) -> None:
    """Every file beside a package's modules matches package_data, else it is missing from the wheel."""
    data = config()["options.package_data"]
    globs = f"{data.get(package, '')} {data.get('*', '')}".replace(",", " ").split()
    folder = folder_of(package)
    nested = {folder_of(name) for name in listed() if folder_of(name).is_relative_to(folder)} - {folder}
    for path in folder.rglob("*"):
        own = path.is_file() and not any(path.is_relative_to(other) for other in nested)
        if own and path.suffix not in {".py", ".pyc"}:
            name = path.relative_to(folder).as_posix()
            assert any(fnmatch(name, glob) for glob in globs), f"{path} is not in [options.package_data] of {package}"


def test_pyright_reads_every_room() -> None:
    """pyright skips linked folders without a word unless they are named, so each room is named."""
    include = json.loads((ROOT / "pyrightconfig.json").read_text())["include"]
    assert sorted(include) == sorted("links/" + name.replace(".", "/") for name in mapping())


def test_pyproject_stays_minimal() -> None:
    """pyproject.toml names the build system only; everything else has its one place in setup.cfg or ruff.toml."""
    tables = re.findall(r"^\[(.+)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert tables == ["build-system"]


def test_hooks_are_local() -> None:
    """Pre-commit hooks are run from the development environment; none is cloned from a hosting site."""
    repos = re.findall(r"^\s*- repo:\s*(\S+)", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert repos
    assert set(repos) == {"local"}
