"""What programs read: every event is as `docs/events.schema.json` says.

Every other test of the command line checks that too (`conftest.cli`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.cli.conftest import Cli
from tests.cli.events import SCHEMA, check_events

SPEC = SCHEMA["$defs"]
CLI_DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


def events(text: str, name: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [event for event in found if event["event"] == name]


def test_a_run_with_several_segments(cli: Cli, clip: Path, quick: list[str]) -> None:
    options = ["--segment-frames", "8", "--progress", "json", "--json"]
    result = cli("upscale", clip, clip.with_name("out.mkv"), *quick, *options)
    (done,) = events(result.out, "done")
    assert set(done) == set(SPEC["done"]["properties"])
    progress = events(result.err, "progress")
    assert set(progress[0]) == set(SPEC["progress"]["properties"])
    last = [event for event in progress if event["stage"] == "restore"][-1]
    assert last["segment"] == {"number": 2, "count": 2, "done": 7, "total": 7}
    assert last["done"] == last["total"] == 12
    assert last["rate"] == pytest.approx(12 / last["elapsed_s"], rel=0.01)
    assert last["left_s"] == 0


def test_a_batch_and_a_preview(cli: Cli, clip: Path, quick: list[str]) -> None:
    bad = clip.with_name("bad.mp4")
    bad.write_bytes(b"no video at all")
    arguments = ["upscale", bad, clip, clip.with_name("large"), *quick, "--json", "--keep-going"]
    for more, name in (["--frames", "1"], "done"), (["--preview", "0.04"], "preview"):
        result = cli(*arguments, *more)
        for event in (name, "failed", "batch"):
            (found,) = events(result.out, event)
            assert set(found) == set(SPEC[event]["properties"])


def test_facts_without_a_run(cli: Cli, clip: Path, quick: list[str]) -> None:
    for arguments, name in (
        (["plan", clip, *quick], "plan"),
        (["info", clip], "info"),
        (["info"], "info"),
        (["download-weights", "--list"], "weights"),
    ):
        assert len(events(cli(*arguments, "--json").out, name)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"event": "nearly done"},
        {"done": None},
        {"done": -1},
        {"damaged": "none"},
        {"color": "red"},
    ],
)
def test_other_events_are_refused(changes: dict[str, Any]) -> None:
    good = {"version": 1, "event": "batch", "done": 1, "damaged": 0, "there": 0, "failed": 0}
    check_events(json.dumps(good))
    with pytest.raises(ValidationError):
        check_events(json.dumps({**good, **changes}))
    with pytest.raises(ValidationError):
        check_events(json.dumps({key: good[key] for key in good if key != "there"}))


def test_a_version_may_gain_keys() -> None:
    more = {
        "version": 1,
        "event": "batch",
        "done": 1,
        "damaged": 0,
        "there": 0,
        "failed": 0,
        "x": 1,
    }
    Draft202012Validator(SCHEMA).validate(more)


def test_the_document_names_every_event() -> None:
    table = CLI_DOCUMENT.read_text().split("| event | keys |")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z-]+)`", " ".join(re.findall(r"^\| (.+?) \|", table, re.M))))
    assert {event["properties"]["event"]["const"] for event in SPEC.values()} <= named
