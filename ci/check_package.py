"""Build through the sdist, install the wheel alone, and try it: what a user of the package gets."""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

import links

# Runs in the fresh environment: imports every module. A client that belongs to an extra may be absent.
IMPORT_ALL = """
import importlib, pkgutil, sys, rdv
extras = set(sys.argv[1].split(","))
count = 0
for found in pkgutil.walk_packages(rdv.__path__, "rdv."):
    if found.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(found.name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").split(".")[0] not in extras:
            raise
    count += 1
print(f"package: {count} modules import; rdv {rdv.__version__}")
"""
EXTRA_IMPORTS = (
    "grpc,google,pact,catboost,pyarrow,statsmodels,pandas,nomad,consul,hvac,boto3,botocore,hdfs,cryptography,requests,"
    "urllib3"
)


def say(text: str) -> None:
    """One line of progress."""
    print(f"package: {text}", flush=True)


def copy_sources(dest: pathlib.Path) -> None:
    """The files that git knows or would add, without anything generated."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=links.ROOT, stdout=subprocess.PIPE, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source = links.ROOT / name
        if source.is_file():
            (dest / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, dest / name)


def expected(root: pathlib.Path) -> set[str]:
    """Names that the wheel must hold under rdv/: modules of every listed package, and its package data."""
    cfg = configparser.ConfigParser()
    cfg.read(root / "setup.cfg")
    mapping, data, names = links.packages(root), cfg["options.package_data"], set()
    for package in cfg["options"]["packages"].split():
        base = max((name for name in mapping if f"{package}.".startswith(f"{name}.")), key=len)
        folder = root.joinpath(mapping[base], *package[len(base) :].strip(".").split("."))
        globs = ["*.py", *data.get(package, "").replace(",", " ").split(), *data.get("*", "").replace(",", " ").split()]
        inside = pathlib.PurePosixPath(*package.split("."))
        names |= {str(inside / f.relative_to(folder).as_posix()) for g in globs for f in folder.glob(g) if f.is_file()}
    return names


def compare(wheel: pathlib.Path, root: pathlib.Path) -> None:
    """Nothing when the wheel holds exactly our modules and data under rdv/, else the program ends."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name and not name.endswith("/")}
    wanted = expected(root)
    if held != wanted:
        sys.exit(f"package: the wheel lacks {sorted(wanted - held)} and should not hold {sorted(held - wanted)}")
    say(f"{wheel.name} holds the tree's {len(held)} files")


def try_install(wheel: pathlib.Path, env: pathlib.Path) -> None:
    """Nothing when the wheel works in a fresh environment that has only its dependencies."""
    venv.create(env, with_pip=True)
    python = env / "bin" / "python"
    say("installing the wheel without development dependencies")
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel], check=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RDV_", "PYTHON"))}
    for command in ([python, "-c", IMPORT_ALL, EXTRA_IMPORTS], [env / "bin" / "rdv", "--help"]):
        subprocess.run(command, cwd=env, env=clean, check=True, timeout=120)


def keep(built: pathlib.Path) -> None:
    """What was built and tried, in dist/, alone: it is what `make publish` publishes."""
    dist = links.ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    shutil.copytree(built, dist)


def main() -> None:
    """Nothing when the package can be built, installed and run."""
    with tempfile.TemporaryDirectory(prefix="rdv-package-") as folder:
        root, out = pathlib.Path(folder, "source"), pathlib.Path(folder, "dist")
        root.mkdir()
        copy_sources(root)
        say("building sdist, then the wheel from it")
        build = [sys.executable, "-m", "build", "--outdir", out, root]
        run = subprocess.run(build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            sys.exit(f"{run.stdout}\npackage: the build failed")
        (wheel,) = out.glob("*.whl")
        compare(wheel, root)
        try_install(wheel, pathlib.Path(folder, "env"))
        keep(out)
        say("ok")


if __name__ == "__main__":
    try:
        main()
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
        sys.exit(f"package: {exc}")
