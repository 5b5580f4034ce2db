"""A library's way to those who use it, by its own pipeline."""

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("gitlab")]


def test_a_tag_publishes_the_package_and_registers_the_tasks(
    new_deployed: Callable[..., Any], dev_cluster: Any, index: Any
) -> None:
    """A library's tag is linted, tested, packaged and published, and its step can be dispatched on the cluster."""
    steps = new_deployed(template="library")
    upload = {name: value for name, value in index.environment().items() if name.startswith("TWINE_")}
    listed = json.loads(steps.ci("--list-json", branch="main").stdout)
    assert [one["name"] for one in listed if one["when"] != "never"] == ["lint", "unit", "package"]
    steps.green(tag="v0.1.0", RDV_CI_PRODUCTION="production", **upload)
    assert steps.told("publish")["version"] == "0.1.0"
    assert len([file for file in index.folder.iterdir() if file.suffix == ".whl"]) == 1
    jobs = json.loads(steps.rdv("jobs", "list", "--env", "production", "-o", "json"))
    assert any(steps.folder.name in str(one) and "capped" in str(one).lower() for one in jobs), jobs
    sentence = steps.red("publish", tag="v0.1.0", RDV_CI_PRODUCTION="production", **upload)
    assert "a version is published once" in sentence
