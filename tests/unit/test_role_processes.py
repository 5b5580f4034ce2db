"""Which processes serve a project, and when one of them must be replaced."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rdv.config import Config, Goal, Model, Project
from rdv.serving.processes.heartbeat import STARTING_S, STOPPED_S, STUCK_S, Pulse, verdict
from rdv.serving.processes.project_file import decode_project, encode_project, read_project, save_project
from rdv.serving.processes.records import RoleRecord, born, read_records, record_path, sweep_records, write_record
from rdv.serving.processes.specs import ExtraRole, role_argv, role_processes

CONFIG = Config(
    goals={"g": Goal(schema={"type": "object"}, budget_ms=50, default=0.5)},
    models={"g/one": Model(goal="g", replicas=2), "g/two": Model(goal="g", params={"a": 1, "b": 0.5, "c": "x"})},
)


def test_every_replica_is_a_process_and_the_decoy_ends_last() -> None:
    """A gateway, a decoy and as many workers as replicas; the gateway drains first, the journal is closed last."""
    found = role_processes(CONFIG, [ExtraRole("schedules", ("rdv", "x"))])
    assert sorted(one.name for one in found) == [
        "decoy", "gateway", "schedules", "worker g/one 0", "worker g/one 1", "worker g/two 0",
    ]  # fmt: skip
    turns = {one.role or one.name: one.turn for one in found}
    assert turns["gateway"] == turns["schedules"] < turns["worker"] < turns["decoy"]


def test_an_extra_role_is_started_as_it_was_given() -> None:
    """The command line of what runs beside serving is the caller's."""
    extra = role_processes(CONFIG, [ExtraRole("schedules", ("rdv", "x"))])[-1]
    assert role_argv(extra, Path("p"), 7) == ("rdv", "x")
    assert not extra.beats


def test_a_project_reaches_its_children_unchanged(tmp_path: Path) -> None:
    """What was merged from flags, environment and file is what a role process works with, to the last value."""
    project = Project(tmp_path, CONFIG, "local")
    assert decode_project(encode_project(project)) == project
    assert read_project(save_project(project)) == project
    assert (project.run_folder / "project.json").stat().st_mode & 0o077 == 0


@given(st.booleans(), st.floats(0, 1000), st.booleans())
def test_only_silence_is_held_against_a_process(stopped: bool, silent_s: float, began: bool) -> None:
    """A stopped process is replaced soon, a stuck one late, a starting one later still, a beating one never."""
    limit_s = STOPPED_S if stopped else STUCK_S if began else STARTING_S
    assert bool(verdict(stopped, silent_s, began)) == (silent_s >= min(limit_s, STUCK_S if began else STARTING_S))


def test_a_stopped_process_is_told_from_a_supervisor_that_was_away() -> None:
    """Beats that were written while nobody looked count: after a pause of its own a supervisor replaces nobody."""
    now = [0.0]
    pulse = Pulse(lambda: now[0])
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert pulse.check(child.pid) == ""
        os.write(pulse.write_fd, b"...")
        now[0] = 1000.0
        assert pulse.check(child.pid) == ""
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        now[0] = 1001.0
        assert "stopped" in pulse.check(child.pid)
        assert pulse.check(0) == ""
    finally:
        child.kill()
        child.wait()
        pulse.close()


def record(pid: int, birth: int, replica: str = "0") -> RoleRecord:
    """A worker's record."""
    return RoleRecord(
        role="worker", name="g/one", replica=replica, pid=pid, born=birth, started=1.0, state="ready", details={}
    )


def test_records_of_the_dead_are_none(tmp_path: Path) -> None:
    """A record counts while its very process lives: not after it, and not when its pid is somebody else's."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    write_record(tmp_path, record(child.pid, born(child.pid), "0"))
    write_record(tmp_path, record(os.getpid(), born() + 1, "1"))
    write_record(tmp_path, record(os.getpid(), born(), "2"))
    assert [one.replica for one in read_records(tmp_path)] == ["0", "2"]
    child.kill()
    child.wait()
    assert [one.replica for one in read_records(tmp_path)] == ["2"]
    (tmp_path / "roles" / "torn.json").write_text("{")
    sweep_records(tmp_path)
    assert list((tmp_path / "roles").iterdir()) == [record_path(tmp_path, "worker", "g/one", "2")]
