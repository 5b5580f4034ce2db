"""The image of a service project: what it may do, and that it trains and serves."""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from rdv.backends.devcluster.ports import Ports

pytestmark = [pytest.mark.live, pytest.mark.xdist_group("images")]
HANG_S = 90.0
CUSTOMER = {"customer": "c1", "plan": "pro", "months": 3, "calls": 4, "spend": 80.5}
INSIDE = """
import importlib.util, json, os, rdv
print(json.dumps({
    "user": os.getuid(), "folder": os.getcwd(), "writes": os.access("/project", os.W_OK),
    "files": sorted(os.listdir("/project")), "pip": importlib.util.find_spec("pip") is not None,
    "rdv": os.path.dirname(rdv.__file__),
}))
"""


def until(true: Callable[[], Any]) -> Any:
    """What the function gives once that is something."""
    end = time.monotonic() + HANG_S
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def ask(port: int) -> dict[str, Any]:
    """The gateway's answer about a customer; nothing while there is none of a model."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/goals/churn/score", json.dumps(CUSTOMER), {"content-type": "application/json"})
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer if answer.get("version") else {}
    except OSError:
        return {}
    finally:
        connection.close()


def test_what_an_image_may(docker_server: Any, shop: Any) -> None:
    """A container runs rdv as a user who is not root, cannot write the project and has no pip; state stays out."""
    run = ["run", "--rm", "--network", "none", shop.tag]
    assert docker_server.call(*run, "--version").startswith(b"rdv ")
    said = json.loads(docker_server.call(*run, "/opt/rdv/bin/python", "-P", "-c", INSIDE))
    project = sorted(one.name for one in shop.folder.iterdir() if not one.name.startswith((".", "__")))
    assert said == {
        "user": 10001, "folder": "/project", "writes": False, "pip": False, "files": project,
        "rdv": f"/opt/rdv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/rdv",
    }  # fmt: skip


def test_the_same_project_has_the_same_image(docker_server: Any, shop: Any) -> None:
    """Building again without a change gives the same tag and the same image; with a change another one."""
    build = ["image", "build", "--base", "rdv-base:1", "--wheels", str(shop.wheels), "-o", "json"]
    id_of = ["image", "inspect", "--format", "{{.Id}}", shop.tag]
    before = docker_server.call(*id_of)
    assert json.loads(shop.rdv(*build))["tag"] == shop.tag
    assert docker_server.call(*id_of) == before
    note = shop.folder / "NOTE"
    note.touch()
    try:
        assert json.loads(shop.rdv(*build))["tag"] != shop.tag
    finally:
        note.unlink()


def test_one_image_trains_and_serves(docker_server: Any, shop: Any) -> None:
    """Trainer, gateway and worker are containers of one image, and their gateway answers with what was trained."""
    kept = ["--init", "--volume", "shop-state:/var/lib/rdv"]
    run = ["run", "--rm", "--network", "none", *kept, shop.tag]
    trained = json.loads(docker_server.call(*run, "train", "churn/lightgbm", "-P", "num_iterations=5", "-o", "json"))
    docker_server.call(*run, "deploy", "churn/lightgbm")
    with Ports(1) as ports:
        port = ports.numbers[0]
        started = ["run", "--detach", *kept]
        serve = ["--network", "host", "--env", f"RDV_SERVE_PORT={port}", shop.tag, "serve", "gateway"]
        both = [docker_server.call(*started, *serve).decode().strip()]
        both.append(
            docker_server.call(*started, "--network", "none", shop.tag, "serve", "worker", "churn/lightgbm")
            .decode()
            .strip()
        )
        answer = until(lambda: ask(port))
        assert (answer["model"], answer["version"]) == ("churn/lightgbm", trained["version"])
        docker_server.call("stop", *both)
        codes = [docker_server.call("inspect", "--format", "{{.State.ExitCode}}", one).strip() for one in both]
        assert codes == [b"0", b"0"], [docker_server.call("logs", one) for one in both]
        docker_server.call("rm", "--volumes", *both)
    docker_server.call("volume", "rm", "shop-state")
