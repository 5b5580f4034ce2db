"""The report page in a real browser, without a network."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from rdv.cli.report.facts import facts
from rdv.cli.report.page import Mark, page

OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", "--proxy-server=127.0.0.1:9")
LIMIT_S = 120
SMALLEST_BYTES = 20_000


@pytest.fixture
def browser(require: Callable[..., str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs headless chromium with a profile of its own; skips without it, fails in CI."""
    program = require("chromium", remedy="apt-get install -y chromium")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        headless = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            *OFFLINE,
        )
        return subprocess.run([program, *headless, *arguments], capture_output=True, text=True, timeout=LIMIT_S)

    return run


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A page about 300 requests to two models, one swap and two defaults."""
    events = [
        SimpleNamespace(
            accepted_at=1.8e9 + at / 20, model="" if at in (150, 151) else "visit/a", version=f"v{at // 150}",
            source="default" if at in (150, 151) else "tier 1", reason="late", elapsed_ms=1 + at % 7,
            scores=[
                SimpleNamespace(model=model, version="v", values=(at / 300,), latency_ms=1 + at % 5, late=False)
                for model in ("visit/a", "visit/b")
            ],
        )
        for at in range(300)
    ]  # fmt: skip
    found = facts("visit", "probability", events)  # type: ignore[arg-type]
    ledger = [{"what": "accepted = answered + defaults + errors", "requests": 300, "holds": True}]
    file = tmp_path / "report.html"
    file.write_text(page(found, 80, ledger, [Mark(1.8e9 + 7.5, "visit/a is swapped to v1")]))
    return file


def test_the_page_is_what_a_reader_sees(report: Path, browser: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Heading, ledger, three charts with lines and bars, and the flag of the swap are in the document that is shown."""
    shown = browser("--dump-dom", "--virtual-time-budget=2000", report.as_uri())
    assert shown.returncode == 0, shown.stderr
    for text in ("visit: what happened to 300 requests", "balances", "visit/a is swapped to v1", "Q-Q"):
        assert text in shown.stdout
    assert shown.stdout.count("<svg") == 3
    assert len(re.findall(r"<polyline", shown.stdout)) >= 4
    assert len(re.findall(r'<rect class="bar', shown.stdout)) >= 60


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_can_be_drawn_in_light_and_in_dark(
    report: Path, browser: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, dark: bool
) -> None:
    """A picture of the page is no empty sheet, whichever colours the reader's system prefers."""
    picture = tmp_path / "page.png"
    colours = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    drawn = browser(
        f"--screenshot={picture}", "--window-size=1000,2400", "--hide-scrollbars", *colours, report.as_uri()
    )
    assert drawn.returncode == 0, drawn.stderr
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert (int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")) == (1000, 2400)
    assert len(data) > SMALLEST_BYTES
