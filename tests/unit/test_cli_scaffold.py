"""`rdv init`: what it writes, and what it leaves alone."""

import csv
import io
from pathlib import Path

import pytest

from rdv.cli.main import main
from rdv.cli.scaffold import sample, starter, write
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
