"""Who may import whom, read from the files: nothing is imported, so nothing need be installed."""

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PORTS = {"rdv.backends.ports", "rdv.backends.ports_services", "rdv.backends.select"}
DATA = {"nomad_templates", "terraform_rights", "gitlab_stages"}
ALL = {"core", "experiments", "backends", "pipelines", "serving", "releases", "cli"} | DATA
# Room -> rooms (or single modules) that it may import beside itself.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "experiments": {"core"},
    "backends": {"core", "nomad_templates", "terraform_rights"},
    "pipelines": {"core"} | PORTS,
    "serving": {"core", "experiments"} | PORTS,
    "releases": {"core", "experiments"} | PORTS,
    "cli": ALL,
    "nomad_templates": set(),
    "terraform_rights": set(),
    "gitlab_stages": set(),
}
# A vendor's client -> the one part of backends that imports it.
HOMES = {
    "nomad": "rdv.backends.nomad",
    "consul": "rdv.backends.consul",
    "hvac": "rdv.backends.vault",
    "boto3": "rdv.backends.s3",
    "botocore": "rdv.backends.s3",
    "hdfs": "rdv.backends.blobs_hdfs",
    "pact": "rdv.backends.contracts_pact_child",
}
VENDORS = set(HOMES)
# Too slow for `rdv --help`: the command line imports them inside a command, if at all.
HEAVY = VENDORS | {
    "luigi", "numpy", "scipy", "pandas", "lightgbm", "catboost", "pyarrow", "statsmodels", "httptools", "uvloop",
    "prometheus_client", "grpc", "google",
}  # fmt: skip
PICKLES = {"pickle", "joblib", "cloudpickle", "dill", "shelve"}
# Import name -> name in setup.cfg, where they differ.
DISTRIBUTIONS = {
    "prometheus_client": "prometheus-client",
    "nomad": "python-nomad",
    "consul": "py-consul",
    "grpc": "grpcio",
    "pact": "pact-python",
    "google": "protobuf",
}
# Installed by the one of ours that it is part of.
COMES_WITH = {"botocore": "boto3", "pandas": "statsmodels", "requests": "consul", "urllib3": "consul"}


@dataclass(frozen=True)
class Import:
    """One imported module: where, what, and whether importing the file is enough to import it."""

    file: Path
    line: int
    module: str
    at_top: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"

    @property
    def root(self) -> str:
        """First part of the module's name."""
        return self.module.split(".")[0]


def mapping() -> dict[str, Path]:
    """Folder of each mapped package."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    lines = cfg["options"]["package_dir"].strip().splitlines()
    return {name.strip(): ROOT / folder.strip() for name, _, folder in (line.partition("=") for line in lines)}


def modules() -> dict[str, Path]:
    """File of every module of ours, by its dotted name; a package's name stands for its __init__."""
    found = {}
    for package, folder in mapping().items():
        for file in sorted(folder.rglob("*.py")):
            parts = [package, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    """Room that a module of ours belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ALL else "core"


def part(module: str) -> str:
    """The part of its room that a module is, or is in: a folder, or a file beside the folders."""
    depth = 1 if room(module) == "core" else 2
    return ".".join(module.split(".")[: depth + 1])


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def _statements(tree: ast.AST, at_top: bool = True, for_types: bool = False) -> Iterator[tuple[ast.stmt, bool, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_top, for_types
        lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _statements(node, at_top and not lazy, for_types or _is_type_checking(node))


def _named(node: ast.stmt, module: str, is_package: bool, known: dict[str, Path]) -> list[str]:
    """Absolute names of the modules that an import statement loads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert isinstance(node, ast.ImportFrom)
    base = node.module or ""
    if node.level:
        above = module.split(".")
        above = above[: len(above) - node.level + is_package]
        base = ".".join([*above, *([node.module] if node.module else [])])
    members = [f"{base}.{alias.name}" for alias in node.names]
    return [name for name in members if name in known] or [base]


def imports_of(module: str, file: Path, known: dict[str, Path]) -> list[Import]:
    """Every import statement of a file, wherever it stands."""
    tree = ast.parse(file.read_text(), str(file))
    return [
        Import(file.relative_to(ROOT), node.lineno, name, at_top, for_types)
        for node, at_top, for_types in _statements(tree)
        for name in _named(node, module, file.name == "__init__.py", known)
    ]


MODULES = modules()
IMPORTS = {module: imports_of(module, file, MODULES) for module, file in MODULES.items()}


def loaded_with(module: str) -> set[Import]:
    """Imports that run when a module of ours is imported, through all of ours that it pulls in."""
    seen, todo, found = set(), [module], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        found |= {one for one in IMPORTS[name] if one.at_top and not one.for_types}
        todo += [one.module for one in IMPORTS[name] if one.at_top and not one.for_types]
        todo += [name.rpartition(".")[0]]
    return found


@pytest.mark.parametrize("name", sorted(MAY_IMPORT))
def test_room_imports_only_what_it_may(name: str) -> None:
    """Each room imports itself and the rooms that the table grants it, at the top of a file or inside a function."""
    wrong = []
    for module, found in IMPORTS.items():
        if room(module) != name:
            continue
        for one in found:
            target = room(one.module)
            if one.root == "rdv" and target != name and not MAY_IMPORT[name] & {target, one.module}:
                wrong.append(str(one))
    assert not wrong, f"{name} may import {sorted(MAY_IMPORT[name])}:\n" + "\n".join(wrong)


def test_serving_and_pipelines_never_meet() -> None:
    """Neither loads the other, not even through a third module: they meet in core records and in the manifest."""
    for one, other in (("serving", "pipelines"), ("pipelines", "serving")):
        for module in (name for name in MODULES if room(name) == one):
            met = [str(found) for found in loaded_with(module) if found.module.startswith(f"rdv.{other}")]
            assert not met, f"{module} loads {other}:\n" + "\n".join(met)


def test_imports_of_ours_exist() -> None:
    """Every rdv module that a file imports is in the tree."""
    wrong = [
        str(one)
        for found in IMPORTS.values()
        for one in found
        if one.root == "rdv" and one.module not in MODULES and one.module.rpartition(".")[0] not in MODULES
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    """Modules that import each other at the top of their files form no ring."""
    graph = {
        module: {one.module for one in found if one.at_top and not one.for_types and one.module in MODULES} - {module}
        for module, found in IMPORTS.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"import cycle: {' -> '.join(exc.args[1])}")


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) == "cli"))
def test_command_line_starts_light(module: str) -> None:
    """Importing a file of cli loads nothing slow, itself or through ours: commands import in their bodies."""
    heavy = [str(one) for one in loaded_with(module) if one.root in HEAVY]
    assert not heavy, "\n".join(heavy)


def test_command_line_imports_rooms_late() -> None:
    """Only core and cli itself are imported at the top of a cli file."""
    early = [
        str(one)
        for module, found in IMPORTS.items()
        for one in found
        if room(module) == "cli" and one.at_top and not one.for_types
        if one.root == "rdv" and room(one.module) not in {"core", "cli"}
    ]
    assert not early, "\n".join(early)


def test_each_vendor_has_one_home() -> None:
    """Clients of Nomad, Consul, Vault, S3, HDFS and pact are each imported in one part of backends, nowhere else."""
    known = [
        str(one)
        for module, found in IMPORTS.items()
        for one in found
        if one.root in HOMES and part(module) != HOMES[one.root]
    ]
    assert not known, "\n".join(known)


def test_parts_of_a_room_import_each_other_one_way() -> None:
    """Of two parts of a room, folders and the files beside them, at most one imports the other."""
    graph: dict[str, set[str]] = {}
    for module, found in IMPORTS.items():
        own = {part(one.module) for one in found if one.at_top and not one.for_types and one.module in MODULES}
        graph.setdefault(part(module), set()).update(own - {part(module)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle of parts: {' -> '.join(exc.args[1])}")


def test_one_file_knows_the_http_server() -> None:
    """At most one file, of serving, imports httptools, so that the server can be changed."""
    users = {module for module, found in IMPORTS.items() for one in found if one.root == "httptools"}
    assert len(users) <= 1, sorted(users)
    assert {room(module) for module in users} <= {"serving"}


def test_no_pickle_outside_pipelines() -> None:
    """Nothing that serves, stores or carries can run code from bytes: no pickle and none of its kin."""
    used = [str(one) for m, found in IMPORTS.items() for one in found if one.root in PICKLES and room(m) != "pipelines"]
    assert not used, "\n".join(used)


def test_third_parties_are_declared() -> None:
    """Everything that a room imports comes from Python itself, from rdv, or from a requirement in setup.cfg."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg")
    extras = {name: text for name, text in cfg["options.extras_require"].items() if name not in {"dev", "all"}}
    lines = "\n".join([cfg["options"]["install_requires"], *extras.values()]).split()
    declared = {re.split(r"[\[<>=~!; ]", line)[0] for line in lines}
    wrong = []
    for one in (one for found in IMPORTS.values() for one in found):
        name = COMES_WITH.get(one.root, one.root)
        ready = one.root in sys.stdlib_module_names or one.root == "rdv"
        if not ready and DISTRIBUTIONS.get(name, name) not in declared:
            wrong.append(str(one))
    assert not wrong, "not in setup.cfg:\n" + "\n".join(wrong)


def test_rooms_are_imported_as_rdv() -> None:
    """No file of the project says `import serving`: it works from the root only and doubles every class."""
    bare = ALL - DATA
    wrong = [str(one) for found in IMPORTS.values() for one in found if one.root in bare]
    for top in ("tests", "benchmarks"):
        for file in sorted(ROOT.joinpath(top).rglob("*.py")):
            wrong += [str(one) for one in imports_of(f"{top}.{file.stem}", file, {}) if one.root in bare]
    assert not wrong, "\n".join(wrong)
