"""What goes into a project's image and what never does, wheels, tags, and how a failure of docker is told."""

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rdv.backends.image import build, context, wheels
from rdv.cli.main import main
from rdv.cli.scaffold import starter, write
from rdv.config import Project
from rdv.errors import Exit, NotAuthorised, NotFound, RdvError, Unreachable, UsageError
from rdv.settings import load_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A scaffolded project."""
    write(tmp_path / "shop", starter("shop", "churn"))
    return load_project(tmp_path / "shop")


def wheel(folder: Path, name: str, text: str = "x") -> Path:
    """A file that is called like a wheel and holds something."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("module.py", text)
    return folder / name


def test_what_never_goes_into_an_image(project: Project, tmp_path: Path) -> None:
    """State, hidden files, environments, private files and everything that holds secrets stay out, and are named."""
    folder = project.folder
    written = {name for name in starter("shop", "churn") if not name.startswith(".")}
    with folder.joinpath("rdv.toml").open("a") as file:
        file.write('\n[environments.dev]\ncluster = "nomad:dev?token_file=tokens/nomad"\nsecrets = "env:keep.toml"\n')
    made = {".git/config", ".rdv/run/x", ".env", "tokens/nomad", "keep.toml", "tls/a.pem", "venv/pyvenv.cfg", "big.bin"}
    for name in (*made, "private", "features.py", "tokens/README", "__pycache__/a.pyc"):
        folder.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(name).write_text("s3cret")
    folder.joinpath("private").chmod(0o600)
    left = context.copy_project(load_project(folder), tmp_path / "out", ["*.bin"])
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"rdv.toml", "schemas/churn.json", "data/churn.csv"} < written
    assert files == written | {"features.py", "tokens/README"}
    assert {"private", "tokens/nomad", "keep.toml", "tls/a.pem", "venv", ".git", "big.bin"} < set(left)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").rglob("*.toml")} == {"0o644"}


def test_a_link_out_of_the_project_is_refused(project: Project, tmp_path: Path) -> None:
    """A link to something outside the project is no part of it: it is refused by name, not followed."""
    tmp_path.joinpath("elsewhere").write_text("x")
    project.folder.joinpath("link").symlink_to("../elsewhere")
    with pytest.raises(UsageError, match="link links to a file outside"):
        context.copy_project(project, tmp_path / "out")


def test_the_same_content_has_the_same_digest(project: Project, tmp_path: Path) -> None:
    """Digests see contents, paths and modes, but neither times nor how a wheel was packed."""
    context.copy_project(project, tmp_path / "a")
    project.folder.joinpath("rdv.toml").touch()
    context.copy_project(project, tmp_path / "b")
    assert context.digest_folder(tmp_path / "a") == context.digest_folder(tmp_path / "b")
    (tmp_path / "b" / "new").touch()
    assert context.digest_folder(tmp_path / "a") != context.digest_folder(tmp_path / "b")
    for folder, text in (("w1", "x"), ("w2", "x"), ("w3", "y")):
        wheel(tmp_path / folder, "rdv-1-py3-none-any.whl", text)
    one, same, other = (wheels.digest_wheels(tmp_path / name) for name in ("w1", "w2", "w3"))
    assert one == same != other


def test_extras_follow_the_models(project: Project) -> None:
    """An image has the cluster's clients, and the libraries that the project's models are made with."""
    assert wheels.extras_of(project) == ("cluster",)
    with project.folder.joinpath("rdv.toml").open("a") as file:
        file.write('\n[models."churn/cat"]\ngoal = "churn"\nflavour = "catboost"\ndata = "data/churn.parquet"\n')
    assert wheels.extras_of(load_project(project.folder)) == ("catboost", "cluster", "parquet")


def test_a_folder_of_wheels_is_installed_as_it_is(tmp_path: Path) -> None:
    """Each wheel is asked for in its version; one that is there twice, or no rdv, is refused."""
    for name in ("rdv-0.1.0-py3-none-any.whl", "Some_Thing-1.2-1-cp311-abi3-linux_x86_64.whl"):
        wheel(tmp_path / "w", name)
    found = wheels.versions(tmp_path / "w")
    assert wheels.requirements(found, ("cluster", "parquet")) == "rdv[cluster,parquet]==0.1.0\nsome-thing==1.2\n"
    wheel(tmp_path / "w", "rdv-0.2.0-py3-none-any.whl")
    with pytest.raises(UsageError, match="rdv twice"):
        wheels.versions(tmp_path / "w")
    with pytest.raises(UsageError, match="no wheel of rdv"):
        wheels.versions(tmp_path)


def test_an_installed_package_becomes_its_wheel_again(tmp_path: Path) -> None:
    """A wheel made of an installed package holds its files, with their digests, and pip installs it."""
    made = wheels.repack(importlib.metadata.distribution("click"), tmp_path)
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        (record,) = (name for name in names if name.endswith("/RECORD"))
        lines = dict(line.split(",", 1) for line in archive.read(record).decode().splitlines())
        digest = hashlib.sha256(archive.read("click/core.py")).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() in lines["click/core.py"]
    assert set(lines) == set(names)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "t")]
    subprocess.run([*pip, str(made)], check=True)
    assert (tmp_path / "t" / "click" / "core.py").is_file()


def test_what_is_a_package(project: Project) -> None:
    """A project is built as a package when its pyproject.toml says so, not when that only configures tools."""
    assert not wheels.is_package(project.folder)
    project.folder.joinpath("pyproject.toml").write_text("[tool.ruff]\n")
    assert not wheels.is_package(project.folder)
    project.folder.joinpath("pyproject.toml").write_text('[project]\nname = "shop"\n')
    assert wheels.is_package(project.folder)


@pytest.mark.parametrize("tag", ["shop", "shop:latest", "Shop:1", "shop:", ":1", "shop:a b", "--rm:1"])
def test_tags_that_engines_would_look_for_elsewhere(tag: str) -> None:
    """A name without a tag, and the tag latest, make an engine ask a hub; they are refused."""
    with pytest.raises(UsageError, match="is not NAME:TAG"):
        build.check_tag(tag)
    assert build.check_tag("registry.example:5000/team/shop:1.0") == "registry.example:5000/team/shop:1.0"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", Unreachable),
        ("permission denied while trying to connect to the docker API at unix:///var/run/docker.sock", NotAuthorised),
        ("Unable to find image 'b:1' locally\ndocker: Error response from daemon: Get: no such host", NotFound),
        ("something else", RdvError),
    ],
)
def test_failures_of_docker_are_told_apart(said: str, kind: type[RdvError]) -> None:
    """No engine, no right to use it, no base image and anything else end with exit codes of their own."""
    error = build.failure("run", said)
    assert type(error) is kind
    assert error.hint


def test_the_line_for_the_settings() -> None:
    """An environment's place on Nomad keeps what it says and gets the image; any other gives a template."""
    place = build.cluster_place("nomad:dev?address=http://127.0.0.1:4646&driver=raw_exec&python=/x", "shop:1")
    assert place == (
        "nomad:dev?address=http://127.0.0.1:4646&driver=docker&python=/opt/rdv/bin/python&image=shop:1&folder=/project"
    )
    assert build.cluster_place("local:", "shop:1").startswith("nomad:NAMESPACE?address=URL&driver=docker&image=shop:1")


def test_an_image_names_itself(project: Project, tmp_path: Path) -> None:
    """The settings in an image name that image, and the tag written into rdv.toml does not change the next tag."""
    file = project.folder / "rdv.toml"
    plain, digests = file.read_text(), set()
    for at, tag in enumerate(["", "shop:1", "shop:2"]):
        place = f"nomad:dev?driver=docker&image={tag}&folder=/project"
        file.write_text(f'{plain}\n[environments.dev]\ncluster = "{place}"\n')
        context.copy_project(load_project(project.folder), tmp_path / str(at) / "project")
        build.name_image(tmp_path / str(at), "")
        digests.add(context.digest_folder(tmp_path / str(at)))
    assert len(digests) == 1
    build.name_image(tmp_path / "0", "shop:3")
    there = load_project(tmp_path / "0" / "project").config.environments["dev"]
    assert there.cluster == "nomad:dev?driver=docker&image=shop:3&folder=/project"


def test_without_docker(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the docker command `rdv image build` ends with exit code 3 and says how to get it, or do without."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["image", "build", "--project", str(project.folder)]) == Exit.USAGE
    assert "apt-get install" in capsys.readouterr().err
