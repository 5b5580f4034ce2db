"""`rdv init`: what it writes, and what it leaves alone."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from rdv.cli.main import main
from rdv.cli.scaffold import LAYERS, sample, starter, write
from rdv.cli.scaffold_update import RECORD, digest
from rdv.errors import Exit, UsageError
from rdv.settings import check, load_project


def test_a_new_project_has_no_problem(tmp_path: Path) -> None:
    """What `rdv init` writes passes `rdv config check` as it stands."""
    write(tmp_path / "shop", starter("shop", "churn"))
    assert check(load_project(tmp_path / "shop")) == []
    assert main(["config", "check", "--project", str(tmp_path / "shop")]) == Exit.OK


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """When one of its files exists, `rdv init` names it, writes none and ends with 3."""
    (tmp_path / "shop").mkdir()
    mine = tmp_path / "shop" / "README.md"
    mine.write_text("mine")
    assert main(["init", str(tmp_path / "shop")]) == Exit.USAGE
    assert "README.md exists" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["README.md"]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Shop", "1st", "a b", "../up", "a/b", "a.b"])
def test_unusable_names_are_refused(name: str) -> None:
    """A goal name that could not stand in a path, an address or a key is refused with what is allowed."""
    with pytest.raises(UsageError, match="lower-case"):
        starter("shop", name)


def test_the_sample_is_the_same_every_time() -> None:
    """The made-up table depends on its seed only and holds both outcomes."""
    assert sample("churn", 50) == sample("churn", 50)
    rows = list(csv.DictReader(io.StringIO(sample("churn", 500))))
    assert {row["churn"] for row in rows} == {"0", "1"}
    assert 0.2 < sum(int(row["churn"]) for row in rows) / len(rows) < 0.8


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A new project."""
    assert main(["init", str(tmp_path / "shop")]) == Exit.OK
    return tmp_path / "shop"


def newer(folder: Path, changed: dict[str, str]) -> None:
    """Have a project remember that other texts were generated for some files, as an older rdv would have."""
    record = json.loads((folder / RECORD).read_text())
    record["files"] |= {path: digest(text) for path, text in changed.items()}
    (folder / RECORD).write_text(json.dumps(record))


@pytest.mark.parametrize("template", sorted(LAYERS))
def test_every_template_makes_a_project_without_a_problem(tmp_path: Path, template: str) -> None:
    """Settings, schemas, documentation, job files and names of each kind of project are well from the start."""
    assert main(["init", str(tmp_path / "a-shop"), "--template", template, "--goal", "leave"]) == Exit.OK
    for path in (tmp_path / "a-shop").rglob("*"):
        assert "@" not in path.name
        if path.is_file() and path.name != "CODEOWNERS":
            assert not re.search(r"@[a-z]+@", path.read_text()), path
    assert main(["check", "--project", str(tmp_path / "a-shop")]) == Exit.OK


def test_a_fresh_project_has_nothing_to_update(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Right after `rdv init`, `--update` says so and ends with 0."""
    assert main(["init", "--update", str(made)]) == Exit.OK
    assert "nothing to change" in capsys.readouterr().err


def test_an_update_shows_what_it_would_change(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file as an older rdv generated it is shown as a difference with exit code 2, and changed with --write."""
    makefile = made / "Makefile"
    new = makefile.read_text()
    makefile.write_text("old:\n")
    newer(made, {"Makefile": "old:\n"})
    assert main(["init", "--update", str(made)]) == Exit.CHANGES
    shown = capsys.readouterr().out
    assert "-old:" in shown
    assert "+++ b/Makefile" in shown
    assert makefile.read_text() == "old:\n"
    assert main(["init", "--update", "--write", str(made)]) == Exit.OK
    assert makefile.read_text() == new
    assert main(["init", "--update", str(made)]) == Exit.OK


def test_an_update_leaves_alone_what_somebody_changed(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that somebody changed or removed is shown once as theirs, and stays as they want it."""
    (made / "Makefile").write_text("mine:\n")
    (made / "pytest.ini").unlink()
    newer(made, {"Makefile": "old:\n", "pytest.ini": "old\n"})
    assert main(["init", "--update", str(made), "-o", "json"]) == Exit.CHANGES
    found = {one["file"]: one["state"] for one in json.loads(capsys.readouterr().out)}
    assert found == {"Makefile": "yours", "pytest.ini": "yours"}
    assert main(["init", "--update", "--write", str(made)]) == Exit.OK
    assert (made / "Makefile").read_text() == "mine:\n"
    assert not (made / "pytest.ini").exists()
    assert main(["init", "--update", str(made)]) == Exit.OK


def test_a_file_that_a_newer_template_adds_is_written(made: Path) -> None:
    """What an older rdv did not know yet is added; one of that name that somebody made stays."""
    record = json.loads((made / RECORD).read_text())
    for path in ("pytest.ini", "Makefile"):
        del record["files"][path]
    (made / RECORD).write_text(json.dumps(record))
    (made / "pytest.ini").unlink()
    (made / "Makefile").write_text("mine:\n")
    assert main(["init", "--update", "--write", str(made)]) == Exit.OK
    assert (made / "pytest.ini").is_file()
    assert (made / "Makefile").read_text() == "mine:\n"


def test_settings_and_data_are_never_updated(made: Path) -> None:
    """rdv.toml, schemas, data and their documentation belong to the project from the moment they are written."""
    for path in ("rdv.toml", "schemas/churn.json", "data/churn.csv", "docs/churn.md", "README.md"):
        (made / path).write_text("mine")
    assert main(["init", "--update", str(made)]) == Exit.OK


def test_an_update_needs_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that `rdv init` did not make is refused with what to do."""
    assert main(["init", "--update", str(tmp_path)]) == Exit.USAGE
    assert RECORD in capsys.readouterr().err
