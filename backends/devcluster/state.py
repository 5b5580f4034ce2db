"""What a dev cluster's folder remembers between commands: ports, secrets, and which processes run."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from rdv.backends.devcluster.adopted import boot
from rdv.backends.devcluster.environments import CLUSTERS
from rdv.backends.devcluster.ports import Ports, TaskPorts
from rdv.backends.devcluster.s3 import new_keys
from rdv.errors import CorruptState, LostRace
from rdv.files import replace_file

AGENT = "consul-batch"
"""The Consul agent of the batch cluster, which is no server."""

# the ports that people know these servers by; of Nomad also the client's, beside the server's
USUAL: Mapping[str, tuple[int, ...]] = {
    "consul": (8500, 8502, 8600, 8301, 8300),
    AGENT: (8510, 8512, 8610, 8311, 8310),
    "vault": (8200, 8201),
    "nomad-batch": (4646, 4647, 4648, 4649, 4650, 4651),
    "nomad-services": (5646, 5647, 5648, 5649, 5650, 5651),
    "s3": (9000,),
    "hdfs": (9870, 8020, 9864, 9866, 9867),
}
_USUAL_TASK_PORTS: Mapping[str, tuple[int, int]] = {"batch": (30000, 30999), "services": (31000, 31999)}


class Recorded(msgspec.Struct, frozen=True):
    """A process that was started: its id, and the moment of its start as the kernel counts."""

    pid: int
    born: int


class State(msgspec.Struct, kw_only=True):
    """`state.json` of a dev cluster's folder. boot: the machine's start in which its processes were started.

    chroot: what tasks of the exec driver see of this machine; empty: Nomad's own choice.
    """

    boot: str
    extras: tuple[str, ...] = ()
    ports: dict[str, tuple[int, ...]]
    task_ports: dict[str, tuple[int, int]]
    secrets: dict[str, str]
    processes: dict[str, Recorded] = {}
    chroot: dict[str, str] = {}

    def recorded(self, name: str) -> Recorded | None:
        """The process of a server, unless it was one of an earlier start of the machine."""
        return self.processes.get(name) if self.boot == boot() else None

    @property
    def s3_keys(self) -> tuple[str, str]:
        """Access key and secret key of the S3 server."""
        return self.secrets["s3-access"], self.secrets["s3-secret"]


def new_state(holds: ExitStack, usual: bool) -> State:
    """Ports and secrets of a new cluster. usual: the ports that people know, where they are free.

    Everything else that asks for ports leaves these alone until holds is closed.
    """
    ports, task_ports = {}, {}
    for name, wanted in USUAL.items():
        made = Ports(len(wanted), wanted if usual else ())
        holds.callback(made.close)
        ports[name] = made.numbers
    for cluster in CLUSTERS:
        if usual and ports[f"nomad-{cluster}"] == USUAL[f"nomad-{cluster}"]:
            task_ports[cluster] = _USUAL_TASK_PORTS[cluster]
        else:
            some = TaskPorts()
            holds.callback(some.close)
            task_ports[cluster] = (some.first, some.last)
    names = ["consul", *(f"{kind}-{cluster}" for kind in ("nomad", "agents") for cluster in CLUSTERS)]
    access, secret = new_keys()
    secrets = {name: new_secret() for name in names} | {"s3-access": access, "s3-secret": secret}
    return State(boot=boot(), ports=ports, task_ports=task_ports, secrets=secrets)


def new_secret() -> str:
    """A token that nobody had before."""
    return str(uuid.uuid4())


def read_state(folder: Path) -> State | None:
    """What a cluster's folder remembers; None when there is no cluster in it."""
    file = folder / "state.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptState(f"{file} is broken: {error}", "`rdv dev-cluster down` clears everything away") from None


def write_state(folder: Path, state: State) -> None:
    """Remember a state, for this user's eyes."""
    replace_file(folder / "state.json", msgspec.json.encode(state), 0o600)


@contextmanager
def locked(folder: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Have a cluster's folder for oneself while this lasts; LostRace when another command has it."""
    while True:
        make(folder)
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(at, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy = f"another `rdv dev-cluster` is at work on {folder}"
                raise LostRace(busy, "wait until it has ended") from None
            if os.fstat(at).st_nlink:  # else it was deleted meanwhile
                yield
                return
        finally:
            os.close(at)
