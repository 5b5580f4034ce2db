"""A project's own job files take the place of ours, by their names."""

from pathlib import Path

from rdv.backends.nomad.drafts import Draft


def test_a_projects_own_job_file_is_taken(tmp_path: Path) -> None:
    """A template of the same name in the project's folder is used; without one, or without a folder, ours is."""
    ours = Draft(id="a", namespace="n", template="gateway.nomad.hcl", variables={})
    own = Draft(id="a", namespace="n", template="gateway.nomad.hcl", variables={}, folder=str(tmp_path))
    assert own.hcl() == ours.hcl()
    (tmp_path / "gateway.nomad.hcl").write_text("mine")
    assert own.hcl() == "mine"
    assert "variable" in ours.hcl()
