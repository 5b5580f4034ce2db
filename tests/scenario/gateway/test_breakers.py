"""A lookup that hangs or raises, in a live gateway: requests go on at once, and status and metrics say why."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdv.breaker import BOOK
from rdv.config import Lookup
from rdv.enrich import SKIPPING

HANG_S = 1.0


@pytest.fixture
def lookup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Lookup]:
    """lookup(name): one of two functions of a module in the project's folder; each call adds a letter to `calls`."""
    module = f"broken_{abs(hash(str(tmp_path)))}"
    note = f"open({str(tmp_path / 'calls')!r}, 'a').write('x')"
    tmp_path.joinpath(f"{module}.py").write_text(
        f"import time\ndef hangs(request):\n    {note}; time.sleep({HANG_S}); return {{'price': 1}}\n"
        f"def raises(request):\n    {note}; raise ValueError('secret')\n"
    )
    monkeypatch.setattr("sys.path", [*sys.path])
    BOOK.renew()
    return lambda name: Lookup(columns={"price": "number"}, function=f"{module}:{name}")


@pytest.mark.parametrize(("name", "calls"), [("hangs", 1), ("raises", 10)])
def test_a_broken_lookup_is_skipped(
    run: Any, tmp_path: Path, lookup: Callable[[str], Lookup], name: str, calls: int
) -> None:
    """It is called a few times, then left out: the requests after that are answered as if it were not there."""

    async def scenario(gateway: Any) -> None:
        for _ in range(calls):
            assert (await gateway.score({"a": 1})).status == 200
        began = time.monotonic()
        for _ in range(30):
            assert (await gateway.score({"a": 1})).status == 200
        took_s = time.monotonic() - began
        trials = len((tmp_path / "calls").read_text()) - calls
        assert 0 <= trials <= took_s / SKIPPING.first_s
        assert took_s < 30 * HANG_S / 2
        (one,) = (await gateway.status())["breakers"]
        assert (one["state"], one["opened"], one["refused"]) == ("open", 1 + trials, 30 - trials)
        assert one["name"].endswith(f":{name}")
        assert "secret" not in one["reason"]
        page = (await gateway.admin("GET", "/metrics")).body.decode()
        assert f'rdv_breaker_open{{breaker="{one["name"]}"}} 1.0' in page
        assert f'rdv_breaker_refused_total{{breaker="{one["name"]}"}} {one["refused"]}.0' in page

    run(scenario, enrich=(lookup(name),), budget_ms=500.0)
