"""What the stage files say, as GitLab would read them: which jobs a pipeline has, and what guards an environment."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("gitlab")]
CHECKED = ["lint", "build", "test"]
STAGING = ["train", "staging", "contract", "load"]
PRODUCTION = ["canary", "promote", "rollback"]


def test_each_kind_of_pipeline_has_its_jobs(new_repository: Callable[..., Any]) -> None:
    """A branch is checked, a merge request trained too, develop and schedules go to staging, a tag to production.

    A schedule for a tag ends as the tag did; what is by hand waits for a person, and nothing else does.
    """
    shop = new_repository("tabular")

    def jobs(**how: str) -> list[str]:
        listed = json.loads(shop.ci("--list-json", **how).stdout)
        by_hand = {one["name"] for one in listed if one["when"] == "manual"}
        assert by_hand <= {"promote", "rollback"}
        return [one["name"] for one in listed if one["when"] != "never"]

    assert jobs(branch="feature") == CHECKED
    assert jobs(source="merge_request_event", branch="") == [*CHECKED, "train"]
    assert jobs() == [*CHECKED, *STAGING]
    assert jobs(source="schedule", branch="main") == [*CHECKED, *STAGING]
    assert jobs(tag="v1") == [*CHECKED, *STAGING, *PRODUCTION]
    assert jobs(tag="v1", source="schedule") == [*CHECKED, *STAGING, *PRODUCTION]
    assert jobs(tag="note") == CHECKED


def test_an_environment_is_guarded_by_what_gitlab_has_for_it(new_repository: Callable[..., Any]) -> None:
    """Jobs that change an environment take turns, those that release to it are told as deployments to it, and each job

    with an environment, and none besides, gets an id_token for the audience that the project names.
    """
    shop = new_repository("tabular")
    told = yaml.safe_load(shop.ci("--preview", tag="v1").stdout)
    found = {name: told[name] for name in [*CHECKED, *STAGING, *PRODUCTION]}
    taking_turns = {name: one.get("resource_group") for name, one in found.items()}
    expected = dict.fromkeys(CHECKED) | dict.fromkeys(STAGING, "staging") | dict.fromkeys(PRODUCTION, "production")
    assert taking_turns == expected
    environments = {name: one["environment"]["name"] for name, one in found.items() if "environment" in one}
    assert environments == {"staging": "staging"} | dict.fromkeys(PRODUCTION, "production")
    for name, one in found.items():
        wanted = {"VAULT_ID_TOKEN": {"aud": "$RDV_CI_AUDIENCE"}}
        assert (one.get("id_tokens") == wanted) == (name not in CHECKED), name
        [line] = one["script"]
        assert line == f"rdv ci {name}"
        assert "rdv-ci/" in str(one["artifacts"]["paths"])
    with_junit = [name for name, one in found.items() if "junit" in one["artifacts"].get("reports", {})]
    assert with_junit == ["lint", "test", "contract", "load"]
