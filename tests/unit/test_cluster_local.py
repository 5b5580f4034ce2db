"""The embedded cluster's parts that decide: verdicts, where cgroups are, ids, locks, what is worth warming."""

import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdv.backends.local.child import cold_modules
from rdv.backends.local.files import StepFiles, encode_spec, microseconds
from rdv.backends.local.locks import Tokens
from rdv.backends.local.memory import V1, V2, MemoryGroup, cgroup_base, family
from rdv.backends.local.messages import Said
from rdv.backends.local.verdict import Ending, verdict
from rdv.backends.ports import Outcome, Status, StepSpec

V1_MOUNTS = """\
25 30 0:23 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
35 25 0:31 / /sys/fs/cgroup/memory rw,relatime shared:15 - cgroup cgroup rw,memory
36 25 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
37 25 0:33 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"

endings = st.builds(
    Ending,
    code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    memory=st.booleans(),
    late=st.booleans(),
    cancelled=st.sampled_from(["", "why"]),
    lost=st.sampled_from(["", "gone"]),
    peak_bytes=st.integers(0, 1 << 40),
    limit_bytes=st.integers(0, 1 << 40),
    said=st.builds(Said, reason=st.text(max_size=20), memory=st.booleans()),
)


@given(endings)
def test_every_ending_has_a_verdict(ending: Ending) -> None:
    """Every end is an ended status with a reason unless it succeeded, and only exit code 0 is success."""
    outcome = verdict("r1.a-1", ending)
    assert outcome.status.ended
    assert (outcome.status is Status.SUCCEEDED) == (ending.code == 0)
    assert bool(outcome.reason) == (ending.code != 0)
    if outcome.status is Status.OUT_OF_MEMORY:
        assert outcome.peak_memory_bytes >= ending.limit_bytes


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (Ending(code=0, late=True, cancelled="x", memory=True, lost="x"), Status.SUCCEEDED),
        (Ending(code=None, signal=9, memory=True, late=True, cancelled="x"), Status.OUT_OF_MEMORY),
        (Ending(code=1, memory=True), Status.OUT_OF_MEMORY),
        (Ending(code=1, said=Said("MemoryError", memory=True)), Status.OUT_OF_MEMORY),
        (Ending(code=None, signal=9, late=True, lost="x", cancelled="x"), Status.TIMED_OUT),
        (Ending(code=None, signal=9, lost="x", cancelled="x"), Status.LOST),
        (Ending(code=None, signal=9, cancelled="x"), Status.CANCELLED),
        (Ending(code=None, signal=11), Status.FAILED),
        (Ending(code=3, late=True, cancelled="x", lost="x"), Status.FAILED),
        (Ending(code=None, signal=63), Status.FAILED),
    ],
)
def test_the_first_cause_counts(ending: Ending, status: Status) -> None:
    """Success stands whatever was about to come; then memory, wall clock, lost dispatcher, cancel, in this order."""
    assert verdict("r1.a-1", ending).status is status


@pytest.mark.parametrize(
    ("membership", "mounts", "found"),
    [
        ("4:memory:/user/one\n0::/user", V1_MOUNTS, (Path("/sys/fs/cgroup/memory/user/one"), V1)),
        ("4:cpu,memory:/\n0::/", V1_MOUNTS, (Path("/sys/fs/cgroup/memory"), V1)),
        ("0::/user.slice/a.scope", V2_MOUNTS, (Path("/sys/fs/cgroup/user.slice/a.scope"), V2)),
        ("0::/docker/7", V2_MOUNTS.replace(" / ", " /docker/7 ", 1), (Path("/sys/fs/cgroup"), V2)),
        ("0::/other", V2_MOUNTS.replace(" / ", " /docker/7 ", 1), (Path("/sys/fs/cgroup"), V2)),
        ("1:cpu:/", V1_MOUNTS.replace("memory", "blkio"), None),
        ("", "", None),
    ],
)
def test_the_own_cgroup_is_found(membership: str, mounts: str, found: tuple[Path, object] | None) -> None:
    """The folder of the own memory cgroup follows from the kernel's two tables, for both versions and in containers."""
    assert cgroup_base(membership, mounts) == found


@pytest.mark.parametrize("files", [V1, V2])
def test_kernel_kills_are_counted(tmp_path: Path, files: object) -> None:
    """The count of out-of-memory kills is read from either version's file; a group that is gone has none."""
    group = MemoryGroup(tmp_path, files)  # type: ignore[arg-type]
    assert (group.oom_kills(), group.pids()) == (0, [])
    tmp_path.joinpath(group.files.events).write_text("low 0\nunder_oom 0\noom 3\noom_kill 2\n")
    assert group.oom_kills() == 2


@given(st.dictionaries(st.integers(1, 30), st.lists(st.integers(1, 30), max_size=4)))
def test_a_family_is_finite(tree: dict[int, list[int]]) -> None:
    """All descendants are found once, even in a table that changes into a ring while it is read."""
    found = list(family(1, lambda pid: tree.get(pid, [])))
    assert len(found) == len(set(found))
    assert {child for pid in found for child in tree.get(pid, [])} <= set(found)


def test_ids_sort_by_time(tmp_path: Path) -> None:
    """Ids of a run sort in order of their making, also when the clock stands still or goes back."""
    files, now = StepFiles(tmp_path), microseconds()
    specs = [
        StepSpec(run="r1", name=name, token="t", entry="a:b", payload={}) for name in ("z", "a-9", "m.x", "\u00e9", "")
    ]
    steps = [files.new_id(spec, next(now)) for spec in specs * 20]
    for step, spec in zip(reversed(steps), reversed(specs * 20), strict=True):
        files.create(step, encode_spec(spec))
    assert files.of_run("r1") == steps


def test_the_first_outcome_stands(tmp_path: Path) -> None:
    """Of many who settle a step at the same time one is first, and all are told its outcome."""
    files = StepFiles(tmp_path)
    spec = StepSpec(run="r1", name="a", token="t", entry="a:b", payload={})
    step = files.new_id(spec, 1)
    files.create(step, encode_spec(spec))
    found: list[Outcome] = []

    def settle(code: int) -> None:
        found.append(files.settle(Outcome(step=step, status=Status.FAILED, exit_code=code)))

    threads = [threading.Thread(target=settle, args=(code,)) for code in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [files.outcome(step)] * 8


def test_a_stale_token_is_free(tmp_path: Path) -> None:
    """A token whose holder died without letting go is taken at once, whatever its file still says."""
    one, other = Tokens(tmp_path), Tokens(tmp_path)
    assert one.locks.take("live r1.a-1")
    assert one.take("t", "r1.a-1") == ""
    assert other.take("t", "r1.b-2") == "r1.a-1"
    one.locks.close()
    assert other.take("t", "r1.b-2") == ""
    other.locks.close()


def test_only_known_modules_are_warmed() -> None:
    """Of what a step imported the fork server is told rdv's own modules and known libraries, nothing of a project's."""
    assert cold_modules(len(sys.modules)) == ()
    everything = cold_modules(0)
    assert {"msgspec", "rdv.errors", "rdv.backends.local.child"} <= set(everything)
    assert not [name for name in everything if name.startswith(("pytest", "tests", "msgspec."))]
    assert cold_modules(list(sys.modules).index("rdv.backends.local.child") + 1) != everything
