"""Run records: found by id or its beginning, read while they are written, told apart from what died."""

from __future__ import annotations

from pathlib import Path

import pytest

from rdv.errors import NotFound, UsageError
from rdv.pipelines.runs.events import Event, line
from rdv.pipelines.runs.records import RunFolder, RunRecord, find_run, list_runs, new_run, run_events, wait_for_run


def test_a_run_is_found_by_its_beginning(tmp_path: Path) -> None:
    """An id, or as much of it as no other run shares, is enough; nothing and too little are not."""
    for run in ("20240101-000000-aaaaaa", "20240101-000000-bbbbbb"):
        folder = RunFolder(tmp_path, run)
        folder.write(RunRecord(run=run, model="m", state="done"))
        folder.close()
    assert [record.run[-6:] for record in list_runs(tmp_path)] == ["bbbbbb", "aaaaaa"]
    assert find_run(tmp_path, "20240101-000000-b").run.endswith("bbbbbb")
    for text in ("", "2024", "x", "../runs", "20240101-000000-aaaaaaa"):
        with pytest.raises(NotFound):
            find_run(tmp_path, text)
    assert list_runs(tmp_path / "nowhere") == []


def test_a_run_is_carried_out_by_one_process(tmp_path: Path) -> None:
    """While a run is held nobody else can carry it out, and it reads as running; let go without an end, as lost."""
    run = new_run()
    folder = RunFolder(tmp_path, run)
    folder.write(RunRecord(run=run, model="m"))
    with pytest.raises(UsageError):
        RunFolder(tmp_path, run)
    assert find_run(tmp_path, run).state == "running"
    folder.close()
    assert find_run(tmp_path, run).state == "lost"
    assert wait_for_run(tmp_path, run, 0).state == "lost"


def test_events_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    """Each event is there as soon as it was told, as JSON and as a line of the log; half a line is left out."""
    folder = RunFolder(tmp_path, "r")
    told = Event(kind="done", task="train", point="x=1", text="1.0 s", done=1, total=2, at="now")
    folder.tell(told)
    with (folder.path / "events.jsonl").open("ab") as torn:
        torn.write(b'{"kind":"do')
    assert list(run_events(tmp_path, "r")) == [told]
    assert (folder.path / "log").read_text() == f"now {line(told)}\n" == "now done train x=1 (1 of 2): 1.0 s\n"
    folder.close()


def test_a_damaged_record_is_no_run(tmp_path: Path) -> None:
    """A folder without a readable record is left out of the list."""
    (tmp_path / "runs" / "r").mkdir(parents=True)
    assert list_runs(tmp_path) == []
    (tmp_path / "runs" / "r" / "run.json").write_text("{")
    assert list_runs(tmp_path) == []
