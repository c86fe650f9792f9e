"""A small part of what `make inject` does, and that it would notice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kill.inject import (
    Call,
    Injection,
    Scene,
    Stage,
    all_injections,
    failures_of,
    inject,
    is_possible,
    prepared,
)

if not is_possible():
    pytest.skip("there is no strace, or it may not trace", allow_module_level=True)

pytestmark = pytest.mark.slow

_SOME = 8


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, list[Scene]]]:
    yield prepared(tmp_path_factory.mktemp("inject"))


def test_failing_calls(played: tuple[Stage, list[Scene]]) -> None:
    """`make inject` does all of them."""
    stage, scenes = played
    chosen = all_injections(stage, scenes)
    assert len(chosen) > 3000
    outcomes = [inject(scene, injection, stage) for scene, injection in chosen[:_SOME]]
    assert sum(outcome.happened for outcome in outcomes) > _SOME // 2
    assert [(str(o.injection), o.failures) for o in outcomes if o.failures] == []


def test_what_would_be_noticed(
    played: tuple[Stage, list[Scene]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, (_, begun) = played
    failing = Injection(Call("openat", "out.mkv.starvsr/journal.jsonl", 2), "EIO")
    assert [*failures_of(failing, begun, stage)] == []
    play, plays = Stage.play, iter((True, False))

    def losing(stage: Stage, scene: Scene, strace: tuple[str, ...] = ()) -> tuple[int, str]:
        code, _ = play(stage, scene, strace)
        (stage.work / "000000-core.mkv").unlink(missing_ok=True)
        (stage.folder / "mine.txt").write_bytes(b"")
        return (1 if next(plays) else code), "Traceback"

    monkeypatch.setattr(Stage, "play", losing)
    said = "\n".join(failures_of(failing, begun, stage))
    for each in ("ends with code 1", "lost: 000000-core.mkv", "mine.txt was touched"):
        assert each in said
