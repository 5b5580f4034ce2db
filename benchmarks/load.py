"""The load of `rdv load` as a client process of its own, beside the scenario that measures.

What it does and how it counts is in `rdv.serving.load.client`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from rdv.serving.load.client import GRACE_S, Address, Client, Sent, http_request

__all__ = ["Load", "Sent"]


class Load:
    """A running client process. start_s: the first arrival, on CLOCK_MONOTONIC."""

    def __init__(self, port: int, path: str, bodies: Path, rate: float, seconds: float, connections: int = 128) -> None:
        self._out = Path(tempfile.mkstemp(prefix="rdv-load-")[1])
        self._seconds = seconds
        arguments = [str(port), path, str(bodies), str(rate), str(seconds), str(connections), str(self._out)]
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"the load client did not start: {line!r}")
        self.start_s = float(line.split()[1])

    @property
    def running(self) -> bool:
        """Whether requests are still being sent or awaited."""
        return self._process.poll() is None

    def wait(self) -> list[Sent]:
        """Every request, in order of arrival, once all were answered or given up."""
        try:
            self._process.communicate(timeout=self._seconds + 2 * GRACE_S + 20)
            if self._process.returncode:
                raise RuntimeError(f"the load client ended with {self._process.returncode}")
            return msgspec.msgpack.decode(self._out.read_bytes(), type=list[Sent])
        finally:
            self._process.kill()
            self._process.wait()
            self._out.unlink(missing_ok=True)


def main() -> None:
    """Run one client as told by the arguments and write what became of each request."""
    parse = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "path", "bodies", "rate", "seconds", "connections", "out"):
        parse.add_argument(name)
    told = parse.parse_args()
    bodies = Path(told.bodies).read_bytes().splitlines()
    requests = [http_request(f"127.0.0.1:{told.port}", told.path, body) for body in bodies]
    gc.disable()

    async def run() -> list[Sent]:
        client = Client(requests, float(told.rate), float(told.seconds))
        address = Address("127.0.0.1", int(told.port))
        await client.run([address], int(told.connections), lambda start_s: print(f"ready {start_s:.6f}", flush=True))
        return client.sent

    Path(told.out).write_bytes(msgspec.msgpack.encode(asyncio.run(run())))


if __name__ == "__main__":
    main()
