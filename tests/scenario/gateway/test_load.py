"""`rdv load` against gateways whose models are too slow, or that have none."""

import asyncio
import json
import sys
from typing import Any

from rdv.errors import Exit

RATE = ("--goal", "sum", "--rate", "40", "--for", "1500ms", "--warm-up", "0", "-o", "json")


async def load(gateway: Any, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """How the command ends, in a process of its own beside this loop, and what it says."""
    url = f"http://127.0.0.1:{gateway.facts['port']}"
    command = (sys.executable, "-P", "-m", "rdv.cli", "load", "--url", url, *RATE, *arguments)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, told = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out), told.decode()


def test_a_slow_model_is_refused(run: Any) -> None:
    """A model that takes a fifth of a second is outside a budget of a tenth, and the sentence says by how much."""

    async def scenario(gateway: Any) -> None:
        await gateway.worker("champion", delay_s=0.2)
        code, found, told = await load(gateway, "--budget", "p50=100ms,errors=0,defaults=0")
        assert code == Exit.REFUSED, told
        assert found["sent"] == found["answered"] == 60
        assert [one["kept"] for one in found["verdicts"]] == [False, True, True]
        assert "p50 is" in told
        assert "allowed 100 ms" in told

    run(scenario)


def test_defaults_have_a_limit_of_their_own(run: Any) -> None:
    """A goal without a model answers fast, with the default: within a budget of latencies, outside one of defaults."""

    async def scenario(gateway: Any) -> None:
        code, found, told = await load(gateway, "--budget", "errors=0")
        assert code == Exit.OK, told
        assert (found["defaults"], found["answered"]) == (60, 0)
        code, _, told = await load(gateway, "--budget", "defaults=1%")
        assert code == Exit.REFUSED
        assert "defaults is 100 %, allowed 1 %" in told

    run(scenario, budget_ms=50.0)
