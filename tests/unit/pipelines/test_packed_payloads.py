"""Payloads that are too long for a dispatch go by way of the artifact store."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rdv.backends import select
from rdv.config import Config, Environment, Project
from rdv.pipelines.step import PACKED_BYTES, Payload, pack, unpack

SPARE = Payload(
    name="a/b", task="m:C", model="churn", period="day.2024-11-22", point="", upstream={}, external={}, parameters={},
    code="", config="config/x", env="local", environment=Environment(), run="r",
)  # fmt: skip


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_payload_of_any_size_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A short payload is dispatched as it is, a long one as a reference; the step reads the same from both."""
    monkeypatch.chdir(tmp_path)
    payload = msgspec.structs.replace(SPARE, parameters={"schema": "x" * size})
    project = Project(tmp_path, Config())
    store = select.artifacts(project)
    packed = pack(payload, store, project.state)
    assert len(msgspec.json.encode(packed)) <= PACKED_BYTES
    assert unpack(packed) == payload
    assert len(store.names("spec/")) == bool(size)
    assert pack(payload, store, project.state) == packed
