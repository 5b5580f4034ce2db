"""What the doctor makes of answers, and of none."""

import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("requests")

from rdv.backends.blobs_dir import DirBlobs
from rdv.backends.certificate_times import validities
from rdv.backends.diagnosis import bus as diagnosis_bus
from rdv.backends.diagnosis import consul as diagnosis_consul
from rdv.backends.diagnosis import every as diagnoses
from rdv.backends.diagnosis import nomad as diagnosis_nomad
from rdv.backends.diagnosis import store as diagnosis_store
from rdv.backends.diagnosis import vault as diagnosis_vault
from rdv.backends.diagnosis.finding import CLOCK_S, Asked, Seen, Told, _ahead_s, options_of, token_of
from rdv.backends.ports import Blobs
from rdv.bus_place import parse_bus
from rdv.config import Config, Environment, Project
from rdv.errors import NotAuthorised

DAY_S = 86400.0


@given(st.floats(1e9, 2e9), st.floats(0, 5), st.floats(-100, 100))
def test_a_clock_is_judged_within_the_whole_seconds_that_it_tells(now: float, took_s: float, off_s: float) -> None:
    """A Date header cannot accuse a clock that agrees, however long the answer took, nor hide a difference by much."""
    told = _ahead_s(formatdate(now + took_s / 2 + off_s, usegmt=True), now, now + took_s)
    assert told is not None
    if off_s == 0:
        assert abs(told) <= 1e-6  # `formatdate` rounds to microseconds, which may be the next second
    assert abs(told) <= abs(off_s) + 1e-3
    assert abs(told) >= abs(off_s) - took_s - 1 - 1e-3


def test_a_moment_that_is_told_twice() -> None:
    """A Date header with the same moment twice, as Hadoop's servers send it, is one; anything else is none."""
    date = formatdate(1e9, usegmt=True)
    assert _ahead_s(f"{date}, {date}", 1e9, 1e9) == 0
    assert _ahead_s("", 1e9, 1e9) is None
    assert _ahead_s("yesterday", 1e9, 1e9) is None


def test_a_clock_that_is_adrift_is_a_finding() -> None:
    """Some seconds apart fail with a remedy, agreement passes, and a server that tells no time is not judged."""
    server = Asked("consul", "http://127.0.0.1:1")
    assert server.clock(Told(200, ahead_s=CLOCK_S + 1)).good is False
    assert "behind" in server.clock(Told(200, ahead_s=-60.0)).found
    assert server.clock(Told(200, ahead_s=0.0)).good is True
    assert server.clock(Told(200)).good is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_answers(host: str) -> None:
    """A server that is not there is one finding, with what to type; on this machine that is the dev cluster's."""
    address = f"address=http://{host}:1"
    for found in (
        list(diagnosis_consul.diagnose(f"rdv/dev?{address}", {})),
        list(diagnosis_consul.diagnose_catalog(f"dev?{address}", {}, "dev-shop-gateway")),
        list(diagnosis_vault.diagnose(f"secret/rdv/dev?{address}", {})),
        list(diagnosis_nomad.diagnose(f"dev?{address}", {}, "dev", (512,), Path())),
        list(diagnosis_store.diagnose(f"s3:bucket?endpoint=http://{host}:1")),
    ):
        assert [(one.good, one.remedy) for one in found] == [(False, "type: rdv dev-cluster up")]
        assert "does not answer" in found[0].found
    assert Asked("vault", "https://vault.example:8200").remedy("ask them") == "ask them"


def test_steps_that_nothing_keeps_apart_are_a_choice() -> None:
    """The driver without isolation passes where the place names it; a place that names none fails."""
    assert diagnosis_nomad.isolation({"driver": "exec"}).good is True
    assert diagnosis_nomad.isolation({"driver": "raw_exec"}).good is True
    unnamed = diagnosis_nomad.isolation({})
    assert unnamed.good is False
    assert "driver=exec" in unnamed.remedy


@pytest.fixture
def answers_503() -> Iterator[str]:
    """A server that answers 503 to everything, as a sealed Vault does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_sealed_vault_says_so(answers_503: str) -> None:
    """A sealed Vault is told apart from one that does not answer."""
    (found,) = diagnosis_vault.diagnose(f"secret?address={answers_503}", {})
    assert found.good is False
    assert "sealed" in found.found


def test_tokens_come_from_files_or_the_environment(tmp_path: Path) -> None:
    """A place's token file comes before the client's variable; one that cannot be read is said, with its name."""
    file = tmp_path / "token"
    file.write_text("mine\n")
    assert token_of({"token_file": str(file)}, {"VAULT_TOKEN": "other"}, "VAULT_TOKEN") == "mine"
    assert token_of({}, {"VAULT_TOKEN": "other"}, "VAULT_TOKEN") == "other"
    with pytest.raises(NotAuthorised, match="gone"):
        token_of({"token_file": str(tmp_path / "gone")}, {}, "VAULT_TOKEN")
    assert options_of("a/b?x=1&y=http://h:1/p") == ("a/b", {"x": "1", "y": "http://h:1/p"})


class _Forgetful(DirBlobs):
    def create(self, key: str, data: bytes) -> None:
        self.delete(key)
        super().create(key, data)


def test_a_store_is_asked_for_proof(tmp_path: Path) -> None:
    """A store that lets what is there be overwritten fails its probe; either way nothing stays in it."""
    for number, (kind, good) in enumerate([(DirBlobs, True), (_Forgetful, False)]):
        blobs: Blobs = kind(tmp_path / str(number))
        found = diagnosis_store.probe("artifacts", blobs)
        assert found.good is good, found
        assert list(blobs.keys("")) == []


def test_the_bus_is_looked_at(tmp_path: Path, authorities: Any) -> None:
    """A certificate that can be had passes, a broken one fails with a remedy, plain text is told and not judged."""

    def found(bus: str) -> list[Seen]:
        project = Project(tmp_path, Config(environments={"local": Environment(bus=bus)}))
        return list(diagnoses.diagnose(project, {}))

    assert found("frames:") == []
    (plain,) = found("grpc:?tls=off")
    assert (plain.good, "whoever reaches the bus" in plain.found) == (None, True)
    setting = authorities.Authority().write(tmp_path)
    good, above = found(setting)
    assert (good.good, above.good) == (True, True)
    assert good.found.startswith(f"to be had below {authorities.DOMAIN}, good for ")
    (tmp_path / "key.pem").unlink()
    (bad,) = found(setting)
    assert (bad.good, "No such file" in bad.found, bool(bad.remedy)) == (False, True, True)


@pytest.mark.parametrize(
    ("life_s", "left_s", "good", "said"),
    [
        (365 * DAY_S, 15 * DAY_S, True, "good for 15 days"),
        (365 * DAY_S, 13 * DAY_S, False, "good for 13 days, about to expire"),
        (DAY_S, 0.3 * DAY_S, True, "good for 7 hours"),
        (DAY_S, 0.2 * DAY_S, False, "good for 5 hours, about to expire"),
        (DAY_S, -3 * DAY_S, False, "expired 3 days ago"),
        (DAY_S, 1.5 * DAY_S, False, "not good before 12 hours from now"),
    ],
)
def test_how_long_the_bus_is_good_for(life_s: float, left_s: float, good: bool, said: str, authorities: Any) -> None:
    """A certificate in files, and its authority's, say how long; too short, over or too early fails with a command."""
    authority = authorities.Authority()
    shown = authority.certificate(life_s=life_s - 60.0)  # it begins a minute ago
    place = parse_bus(authorities.SETTING, "prod")
    [own] = validities(shown.chain)
    seen = list(diagnosis_bus.diagnose(place, shown, "", own.until - left_s))
    assert (seen[0].good, seen[0].found) == (good, f"to be had, {said}")
    assert ("openssl x509 -x509toreq" in seen[0].remedy, "cert.pem" in seen[0].remedy) == (True, True)
    later = diagnosis_bus.diagnose(place, shown, "", own.until + 10 * DAY_S)
    assert [(one.check, one.good) for one in later] == [("bus certificate", False), ("bus authority", False)]


def test_a_role_of_vault_that_gives_less_than_is_asked_for(authorities: Any) -> None:
    """It is told, and fails nothing: what runs renews its certificate at two thirds of what it got."""
    shown = authorities.Authority().certificate(life_s=3600.0)
    place = parse_bus("grpc:?tls=vault&mount=pki&role=bus", "prod")
    first, _ = diagnosis_bus.diagnose(place, shown, "", time.time())
    assert (first.good, "its role gives less than the 24 hours asked for" in first.found) == (True, True)
