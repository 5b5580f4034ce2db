"""What trainings on real servers share: a project in an environment that no other test uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def town(
    nomad_servers: Any, consul_server: Any, s3_server: Any, towns: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A project and its environment on the session's servers."""
    return towns.make_town(nomad_servers, consul_server, s3_server, tmp_path, monkeypatch)
