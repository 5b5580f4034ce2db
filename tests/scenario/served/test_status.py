"""What is served is told, and waiting for a release ends with what became of it."""

import os
import signal
import subprocess
import sys

import pytest

from rdv.errors import LostRace, NotFound, Refused, TimedOut, Unreachable
from rdv.serving.processes.records import read_records
from rdv.serving.status import read_status, wait_until_served

ALONE = (
    "import sys; from pathlib import Path; from rdv.settings import load_project\n"
    "from rdv.serving.roles import run_role\n"
    "run_role(load_project(Path(sys.argv[1])), *sys.argv[2:])\n"
)


def test_nothing_served_is_told_at_once(site) -> None:
    """With nobody serving, status and waiting end with the one command that would change that."""
    with pytest.raises(Unreachable, match="rdv serve"):
        read_status(site.project)
    with pytest.raises(Unreachable, match="no worker of total/champion runs"):
        wait_until_served(site.project, site.CHAMPION, "v1", 30.0)
    with pytest.raises(NotFound, match="total/champion"):
        wait_until_served(site.project, "nobody", "v1", 30.0)


def test_waiting_for_a_release_ends_with_what_became_of_it(site) -> None:
    """Served, refused by a worker, overtaken by another release, or not in time: each ends in its own way."""
    site.publish(site.CHAMPION, "bad", 5.0, probe_scores=((0.0,),))
    site.start()
    assert wait_until_served(site.project, site.CHAMPION, "v1", 30.0).replicas == ("0",)
    with pytest.raises(LostRace, match="is to serve v1 by now"):
        wait_until_served(site.project, site.CHAMPION, "v2", 30.0)
    site.deploy(site.CHAMPION, "bad")
    with pytest.raises(Refused, match="cannot serve bad: .*refused by its probe"):
        wait_until_served(site.project, site.CHAMPION, "bad", 30.0)
    status = read_status(site.project)
    assert [one.details["version"] for one in status.workers] == ["v1", "v1"]
    os.kill(status.supervisor.pid, signal.SIGSTOP)  # so that the stopped worker is not replaced
    pid = site.pid("worker", site.CHAMPION)
    os.kill(pid, signal.SIGSTOP)
    site.deploy(site.CHAMPION, "v2")
    with pytest.raises(TimedOut, match="replica 0 serves v1"):
        wait_until_served(site.project, site.CHAMPION, "v2", 0.3)
    os.kill(pid, signal.SIGCONT)
    os.kill(status.supervisor.pid, signal.SIGCONT)
    assert wait_until_served(site.project, site.CHAMPION, "v2", 30.0).version == "v2"
    assert site.stop() == 0


def test_roles_run_alone_as_well(site) -> None:
    """Each role can be a process of its own, without a supervisor, and ends cleanly on a signal."""
    roles = [("decoy",), ("gateway",), ("worker", site.CHAMPION, "one"), ("worker", site.SECOND, "two")]
    with site.log.open("ab") as log:
        made = [
            subprocess.Popen([sys.executable, "-P", "-c", ALONE, str(site.folder), *role], stdout=log, stderr=log)
            for role in roles
        ]
        try:
            status = site.settled()
            assert status.supervisor is None
            assert sorted(one.replica for one in status.workers) == ["one", "two"]
            with site.load(1) as seen:
                site.enough(seen)
            site.check_answers(seen)
            assert wait_until_served(site.project, site.CHAMPION, "v1", 30.0).replicas == ("one",)
        finally:
            for process in made:
                process.terminate()
            codes = [process.wait(30) for process in made]
    assert codes == [0] * len(roles)
    assert read_records(site.project.run_folder) == []
