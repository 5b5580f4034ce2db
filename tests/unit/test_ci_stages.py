"""The stages of a pipeline: their order, what they demand, and one sentence for whatever is wrong."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rdv.cli.ci import image as ci_image
from rdv.cli.ci import stages as ci_stages
from rdv.cli.ci.handover import ORDER, Content, check_on_main, content, leave, needed
from rdv.cli.ci.lines import Lines
from rdv.cli.ci.login import check_id_token, logged_in, places
from rdv.cli.ci.package import refusal
from rdv.cli.main import main
from rdv.config import Goal, Tier
from rdv.errors import Exit, LostRace, NotAuthorised, RdvError, Unreachable, UsageError
from rdv.settings import load_project

ENVIRONMENTS = """
[environments.staging]
[environments.production]
"""


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project in a repository of its own, with two environments; nothing of the caller's pipeline is seen."""
    for name in ("CI_COMMIT_TAG", "CI_DEFAULT_BRANCH", "CI_REGISTRY_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "shop"
    assert main(["init", str(folder)]) == Exit.OK
    with (folder / "rdv.toml").open("a") as file:
        file.write(ENVIRONMENTS)
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "one")
    return folder


@pytest.fixture
def said(shop: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """said(stage): how a stage of the project ends, and its last sentence."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["ci", *arguments, "--project", str(shop)])
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_every_stage_has_its_place_in_the_order() -> None:
    """Stages and their order are the same set, and nothing comes before itself."""
    assert set(ORDER) == set(ci_stages.STAGES)
    done: set[str] = set()
    for stage, before in ORDER.items():
        assert set(before) <= done
        done.add(stage)


@pytest.mark.parametrize("stage", [name for name, before in ORDER.items() if before])
def test_a_stage_out_of_order_says_which_comes_first(said: Callable[..., tuple[int, str]], stage: str) -> None:
    """A stage whose predecessor has left nothing ends with 3 and names the command to run first."""
    code, sentence = said(stage)
    assert code == Exit.USAGE
    assert f"{stage} comes after {ORDER[stage][0]}" in sentence
    assert f"`rdv ci {ORDER[stage][0]}`" in sentence


def test_records_of_another_content_are_refused(shop: Path) -> None:
    """What was built from another commit is not tested, and what another project left is not taken."""
    about = content(shop)
    leave(shop, "build", "shop", about, {"image": "shop:1"})
    assert needed(shop, "test", "shop", about) == {"build": {"image": "shop:1"}}
    with pytest.raises(UsageError, match="is of the project shop, and this is other"):
        needed(shop, "test", "other", about)
    with pytest.raises(UsageError, match="is about commit"):
        needed(shop, "test", "shop", Content("f" * 40, "e" * 40))


def test_the_same_content_is_the_same_wherever_it_was_merged(shop: Path) -> None:
    """A tag on the main branch has the image of the content that was tested on another branch."""
    before = content(shop)
    git(shop, "checkout", "-q", "-b", "release")
    git(shop, "commit", "-q", "--allow-empty", "-m", "two")
    after = content(shop)
    assert (before.commit != after.commit, before.tree) == (True, after.tree)
    assert ci_image.image_tag("My Shop", before.tree, "") == f"my-shop:{after.tree[:16]}"
    assert ci_image.image_tag("x", after.tree, "r.example:5000/a/b") == f"r.example:5000/a/b:{after.tree[:16]}"


def test_a_tag_is_trained_for_the_day_of_its_content(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The period is that of the first commit with the content, however late it is merged; on a schedule it is now's."""
    (shop / "note").touch()
    git(shop, "add", "note")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-03-04T23:30:00-02:00")
    git(shop, "commit", "-q", "-m", "two")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2026-03-09T10:00:00+00:00")
    git(shop, "commit", "-q", "--allow-empty", "-m", "merged")
    stage = ci_stages.Stage(load_project(shop), "train", "staging", content(shop), {})
    monkeypatch.delenv("CI_PIPELINE_SOURCE", raising=False)
    assert ci_stages.period(stage) == ["--date", "2026-03-04T23:30:00-02:00"]
    monkeypatch.setenv("CI_PIPELINE_SOURCE", "schedule")
    assert ci_stages.period(stage) == []


def test_defaults_are_few_where_models_answer() -> None:
    """The load's budget is the goal's own; a goal without models answers its default, and may."""
    goal = Goal(schema="s.json", budget_ms=80.0, default=0.5)
    assert ci_stages.limits(goal) == "p99=80ms,errors=0"
    models = msgspec.structs.replace(goal, tiers=(Tier(until_ms=60.0, models=("churn/a",)),))
    assert ci_stages.limits(models) == "p99=80ms,errors=0,defaults=1%"


def test_what_another_pipeline_released_is_not_taken_for_ones_own(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging that serves another version than this pipeline released there is a lost race that says what to do."""
    before = {"staging": {"released": {"churn/lightgbm": {"version": "v1"}}}}
    stage = ci_stages.Stage(load_project(shop), "load", "staging", content(shop), before)

    def serving(*versions: str) -> None:
        models = {"churn/lightgbm": {"replicas": [{"version": one} for one in versions]}, "churn/x": {"replicas": []}}
        view = {"gateways": [{"goals": {"churn": {"models": models}}}]}
        monkeypatch.setattr(stage.lines, "told", lambda *arguments: view)

    for well in (("v1", "v1"), ()):
        serving(*well)
        ci_stages.be_released(stage)
    serving("v1", "v2")
    with pytest.raises(LostRace, match="serves v2 of churn/lightgbm, and this pipeline released v1; run the job of"):
        ci_stages.be_released(stage)


def test_what_is_not_committed_is_not_built(shop: Path, said: Callable[..., tuple[int, str]]) -> None:
    """A changed file that is not committed is named: nobody could make that image again."""
    (shop / "rdv.toml").write_text((shop / "rdv.toml").read_text() + "# changed\n")
    code, sentence = said("build")
    assert (code, "rdv.toml is changed and not committed" in sentence) == (Exit.USAGE, True)


def test_without_images_nothing_is_built(shop: Path, said: Callable[..., tuple[int, str]]) -> None:
    """Where the nodes of staging run no images, the build says so and leaves the record that the next stage needs."""
    assert said("build")[0] == Exit.OK
    assert json.loads((shop / "rdv-ci/build.json").read_text())["told"] == {"image": ""}


def test_an_environment_that_is_not_there_is_named(
    shop: Path, said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage whose environment rdv.toml lacks names it, and those that there are."""
    monkeypatch.setenv("RDV_CI_STAGING", "stagign")
    code, sentence = said("build")
    assert (code, "no environment 'stagign'" in sentence, "production, staging" in sentence) == (3, True, True)


def test_a_variable_without_a_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that was emptied and has no use empty is told with the place to set it."""
    monkeypatch.setenv("RDV_CI_STAGING", "")
    with pytest.raises(UsageError, match="the variable RDV_CI_STAGING is missing"):
        ci_stages.variable("RDV_CI_STAGING", "staging")


def test_a_tag_that_is_not_on_the_main_branch_is_refused(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what was merged goes to production."""
    monkeypatch.setenv("CI_COMMIT_TAG", "v1")
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "main")
    check_on_main(shop)
    git(shop, "checkout", "-q", "-b", "aside")
    git(shop, "commit", "-q", "--allow-empty", "-m", "two")
    with pytest.raises(UsageError, match="the tag v1 is not on main"):
        check_on_main(shop)
    monkeypatch.setenv("CI_DEFAULT_BRANCH", "trunk")
    with pytest.raises(UsageError, match="GIT_DEPTH"):
        check_on_main(shop)


def token(claims: object) -> str:
    """A token with some claims that nobody signed."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.x"


def test_an_expired_id_token_is_told_before_anybody_is_asked() -> None:
    """A missing, an expired and a mangled id_token each end with 4 and say what to do."""
    check_id_token("T", {"T": token({"exp": 100})}, now=99)
    with pytest.raises(NotAuthorised, match=r"expired 7 s ago.*run the job again"):
        check_id_token("T", {"T": token({"exp": 100})}, now=107)
    with pytest.raises(NotAuthorised, match="the variable T is missing"):
        check_id_token("T", {})
    for bad in ("hello", "a.b.c", token([]), token({}), token({"exp": "soon"})):
        with pytest.raises(NotAuthorised, match="no id_token"):
            check_id_token("T", {"T": bad})


def test_a_login_by_id_token_is_asked_for_its_variable(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place in Vault that names a variable makes a stage demand it; others need nothing."""
    project = load_project(shop)
    with logged_in(project, "staging"):
        pass
    monkeypatch.setenv("RDV_ENVIRONMENTS_STAGING_SECRETS", "vault:secret/x?auth=gitlab&role=r&jwt_env=VAULT_ID_TOKEN")
    monkeypatch.delenv("VAULT_ID_TOKEN", raising=False)
    changed = load_project(shop)
    assert "jwt_env" in places(changed, "staging")["secrets"]
    with pytest.raises(NotAuthorised, match="VAULT_ID_TOKEN is missing"), logged_in(changed, "staging"):
        pass


def test_an_image_is_put_into_every_place_that_runs_images(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The places of an environment name the pipeline's image instead of another one, and keep the rest."""
    place = "nomad:staging?address=http://h:1&driver=docker&image=shop:old&folder=/project"
    monkeypatch.setenv("RDV_ENVIRONMENTS_STAGING_CLUSTER", place)
    project = load_project(shop)
    assert ci_image.wants_image(project, "staging")
    assert not ci_image.wants_image(project, "production")
    made = ci_image.with_image(project, "staging", "shop:new")
    wanted = "nomad:staging?address=http://h:1&driver=docker&folder=/project&image=shop:new"
    assert made == {"RDV_ENVIRONMENTS_STAGING_CLUSTER": wanted}
    assert ci_image.with_image(project, "staging", "") == {}


def test_a_failing_command_is_the_stages_sentence(shop: Path) -> None:
    """When a command that a stage types fails, the stage ends with its exit code and its own words."""
    lines = Lines(shop, {})
    with pytest.raises(RdvError, match="rdv.toml has no model 'nobody'") as failed:
        lines.rdv("deploy", "nobody")
    assert failed.value.exit_code == Exit.USAGE
    assert lines.told("models", "list")[0]["model"] == "churn/lightgbm"
    assert lines.rdv("deploy", "nobody", well=(0, 3)) == Exit.USAGE


@pytest.mark.parametrize(
    ("twine", "kind"),
    [
        ("ERROR HTTPError: 409 Conflict from http://127.0.0.1:8080/", LostRace),
        ("ERROR HTTPError: 403 Forbidden", NotAuthorised),
        ("requests.exceptions.ConnectionError: Max retries exceeded", Unreachable),
        ("something else", RdvError),
    ],
)
def test_what_an_index_says_is_told_by_kind(twine: str, kind: type[RdvError]) -> None:
    """A version that is taken, a refused login and an unreachable index each have their exit code."""
    assert type(refusal(twine, "1.0")) is kind
