"""One HDFS namenode and one datanode, on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import call, must
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, servers_folder
from rdv.errors import NotFound

_STATE = "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"
_LOOK_S = 2.0


class HdfsServers:
    """A namenode and a datanode with their data below a folder. Keep ports and data over stop and start.

    ports: the namenode's http and rpc, the datanode's http, transfer and ipc; free ones unless given.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], tied: bool = True, ports: Sequence[int] = ()
    ) -> None:
        script = servers_folder(environ) / "hdfs" / "start"
        if not script.exists():
            raise NotFound(f"no HDFS in {script.parent}", 'type: make servers ARGS="--with hdfs"')
        self._ports = Ports(0 if ports else 5)
        numbers = tuple(ports) or self._ports.numbers
        self.port = numbers[0]
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        argv = [str(script), str(folder / "data"), *map(str, numbers)]
        self.process = ServerProcess("hdfs", argv, clean_environment(environ), folder / "hdfs.log", tied)

    def start(self) -> None:
        """Start both and wait until a file can be written."""
        self.process.start()
        self.settle()

    def settle(self) -> None:
        """Wait until a file can be written."""
        self.process.until(self.is_ready, "ready")

    def datanode(self) -> int:
        """The datanode's process, as the script told it."""
        words = [line.split() for line in self.process.log.read_text().splitlines() if line.startswith("namenode ")]
        return int(words[-1][3])

    def close(self) -> None:
        """Stop both and give their ports back."""
        self.process.stop()
        self._ports.close()

    def is_ready(self) -> bool:
        """Whether a file can be written."""
        return is_operational(self.port)

    def make_folder(self, path: str) -> None:
        """A folder; one that is there stays."""
        must(call(self.port, "PUT", f"/webhdfs/v1{path}?op=MKDIRS&user.name=root"), f"folder {path}")


def is_operational(port: int) -> bool:
    """Whether the namenode at a port has a datanode with room."""
    answer = call(port, "GET", _STATE, limit_s=_LOOK_S)
    beans = answer.json()["beans"] if answer.ok else []
    return bool(
        beans
        and beans[0].get("NumLiveDataNodes", 0) >= 1
        and beans[0].get("FSState") == "Operational"
        and beans[0].get("CapacityRemaining", 0) > 0
    )
