"""Our own HTTP edge with nothing behind it: reads the JSON body, within all its bounds, and answers a constant.

`python echo_server.py` prints `port N` when it accepts connections.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping

import uvloop

from rdv.serving.http.edge import Bounds, HttpServer, listening_socket
from rdv.serving.http.types import Reply, Route

# As long as one of the gateway's answers.
ANSWER = b'{"request_id":"%s","answer":0.5,"source":"tier 1"}' % (b"0" * 120)


class Echo:
    """One path that scores nothing."""

    def routes(self) -> Mapping[str, Mapping[str, Route]]:
        """The gateway's path for the goal of the benchmarks."""
        return {"/v1/goals/visit/score": {"POST": Route(self._answer, takes_body=True, admit=True)}}

    def refused(self, status: int) -> None:
        """Nobody counts here."""

    async def _answer(self, body: bytes) -> Reply:
        return Reply(200, ANSWER)


async def serve() -> None:
    """Serve until told to stop."""
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    server = HttpServer(Echo(), listener, Bounds())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(server.stop(1.0)))
    print(f"port {port}", flush=True)
    await server.serve()


if __name__ == "__main__":
    uvloop.run(serve())
