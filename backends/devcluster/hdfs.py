"""One HDFS namenode and one datanode, on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rdv.backends.devcluster.child import ServerProcess
from rdv.backends.devcluster.http import call
from rdv.backends.devcluster.ports import Ports
from rdv.backends.devcluster.programs import clean_environment, servers_folder
from rdv.errors import NotFound

_STATE = "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState"


class HdfsServers:
    """A namenode and a datanode with their data below a folder. Keep ports and data over stop and start."""

    def __init__(self, folder: Path, environ: Mapping[str, str], tied: bool = True) -> None:
        script = servers_folder(environ) / "hdfs" / "start"
        if not script.exists():
            raise NotFound(f"no HDFS in {script.parent}", 'type: make servers ARGS="--with hdfs"')
        self._ports = Ports(5)
        self.port = self._ports.numbers[0]
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        argv = [str(script), str(folder / "data"), *map(str, self._ports.numbers)]
        self.process = ServerProcess("hdfs", argv, clean_environment(environ), folder / "hdfs.log", tied)

    def start(self) -> None:
        """Start both and wait until a file can be written."""
        self.process.start()
        self.process.until(self._is_ready, "ready")

    def datanode(self) -> int:
        """The datanode's process, as the script told it."""
        words = [line.split() for line in self.process.log.read_text().splitlines() if line.startswith("namenode ")]
        return int(words[-1][3])

    def close(self) -> None:
        """Stop both and give their ports back."""
        self.process.stop()
        self._ports.close()

    def _is_ready(self) -> bool:
        answer = call(self.port, "GET", _STATE)
        beans = answer.json()["beans"] if answer.ok else []
        return bool(
            beans
            and beans[0].get("NumLiveDataNodes", 0) >= 1
            and beans[0].get("FSState") == "Operational"
            and beans[0].get("CapacityRemaining", 0) > 0
        )
