"""What a check of `rdv doctor` found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rdv.errors import RdvError

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"


@dataclass(frozen=True)
class Finding:
    """One check: its name, PASS, FAIL or SKIP, what was seen, and for a failure what to do."""

    check: str
    verdict: str
    found: str
    remedy: str = ""

    def record(self) -> dict[str, str]:
        """The finding as one line of a table."""
        return {"verdict": self.verdict, "check": self.check, "found": self.found, "remedy": self.remedy}


def judge(check: str, good: bool, found: str, remedy: str) -> Finding:
    """A finding that passes when `good`, and otherwise names the remedy."""
    return Finding(check, PASS, found) if good else Finding(check, FAIL, found, remedy)


def skipped(check: str, why: str) -> Finding:
    """A finding about something that is not here to be checked."""
    return Finding(check, SKIP, why)


def run(check: str, look: Callable[[], Finding]) -> Finding:
    """The finding of a check that may itself fail; then its error is what was found and its hint the remedy."""
    try:
        return look()
    except RdvError as error:
        return Finding(check, FAIL, error.what, error.hint or "`rdv help exit-codes` says what kind of failure this is")
    except Exception as error:
        return Finding(
            check, FAIL, f"{type(error).__name__}: {error}", "report it, with what `rdv doctor -o json` prints"
        )
