"""A project's pipeline where everything runs in its image: built once, tested in, trained and served by it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rdv.backends.image.build import FOLDER, PYTHON
from rdv.ids import short_id

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("images")]
MODEL = "churn/lightgbm"
MORE = "\n[serve]\nport = 0\ngateways = 2\nproxies = 0\ngateway_mb = 256\ndecoy_mb = 256\n"
CUSTOMER = {"customer": "c1", "plan": "pro", "months": 3, "calls": 1, "spend": 10.5}
LAST_WORDS = "httptools was built for another machine"


@pytest.fixture
def repository(
    repositories: Any, docker_cluster: Any, issuer: Any, gitlab_ci_local: str, shop: Any, tmp_path: Path
) -> Iterator[Any]:
    """A new project on the cluster with the engine, with the wheels that another project's image was made of."""
    made = repositories.Deployed(
        tmp_path / f"t{short_id()}", gitlab_ci_local, docker_cluster, issuer, more=MORE,
        driver=f"docker&folder={FOLDER}&python={PYTHON}&image=the-pipelines:own",
    )  # fmt: skip
    engine = docker_cluster.servers.docker.environ
    made.environment |= {name: engine[name] for name in ("DOCKER_HOST", "DOCKER_CONFIG")}
    made.variables |= {"RDV_CI_BASE": "rdv-base:1", "RDV_CI_BUILD": f"--wheels {shop.wheels}", "CI_REGISTRY_IMAGE": ""}
    yield made
    made.rdv("apply", "--remove", "--env", "staging")


def answered_by(repository: Any) -> str:
    """The version that answers in staging."""
    told = json.loads(repository.rdv("status", "--wait", "60", "--env", "staging", "-o", "json"))
    url = f"{told['gateways'][0]['url']}/v1/goals/churn/score"
    request = urllib.request.Request(url, json.dumps(CUSTOMER).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(json.load(reply)["version"])


def test_an_image_goes_to_staging_and_a_bad_one_is_taken_back(repository: Any, docker_server: Any) -> None:
    """The tests run in the image, steps and serving jobs are containers of it, and what is built is not built again.

    An image that does not come up makes the job red, with what it wrote last; what was served before is served on.
    """
    jobs = ("build", "test", "train", "staging")
    repository.green(*jobs)
    image = repository.told("staging")["image"]
    assert repository.told("test")["image"] == repository.told("build")["image"] == image
    running = docker_server.call("ps", "--format", "{{.Image}}").decode().split()
    assert set(running) == {image}
    served = repository.served("staging", MODEL)
    assert answered_by(repository) == served

    repository.folder.joinpath("NOTE").write_text("another content")
    repository.commit("a change that is no better")
    repository.green("build")
    spoil(docker_server, repository.told("build")["image"], repository.folder.parent)
    sentence = repository.red(*jobs)
    assert repository.told("build")["built"] is False
    assert LAST_WORDS in sentence
    assert "the version before was brought back and serves" in sentence
    assert answered_by(repository) == served
    running = docker_server.call("ps", "--format", "{{.Image}}").decode().split()
    assert set(running) == {image}


def spoil(docker_server: Any, image: str, folder: Path) -> None:
    """Have an image whose gateways end as soon as they begin; what its tests need is as it was."""
    wrong = folder / "__init__.py"
    wrong.write_text(f"raise ImportError({LAST_WORDS!r})\n")
    docker_server.call("create", "--name", "spoilt", image)
    found = docker_server.call("run", "--rm", "--network", "none", image, PYTHON, "-P", "-c", WHERE).decode().strip()
    docker_server.call("cp", str(wrong), f"spoilt:{found}")
    docker_server.call("commit", "spoilt", image)
    docker_server.call("rm", "spoilt")


WHERE = "import importlib.util; print(importlib.util.find_spec('httptools').origin)"
