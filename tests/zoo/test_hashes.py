"""The record of hashes, and the hashing."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from starvsr.errors import WeightsError
from starvsr.zoo.hashes import (
    RECORD_NAME,
    ComponentRecord,
    Hashes,
    SourceRecord,
    file_sha256,
    git_blob_sha1,
    read_hashes,
    record_hashes,
)
from starvsr.zoo.parallel import StoppedError


def test_hashes_are_those_of_the_tools(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert file_sha256(path) == hashlib.sha256(b"hello\n").hexdigest()
    # By `git hash-object`.
    assert git_blob_sha1(path) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_hashing_stops_when_told(tmp_path: Path) -> None:
    path, stop = tmp_path / "file", Event()
    path.write_bytes(b"hello\n")
    assert file_sha256(path, stop) == file_sha256(path)
    stop.set()
    for function in (file_sha256, git_blob_sha1):
        with pytest.raises(StoppedError):
            function(path, stop)


def test_record_is_kept_and_added_to(tmp_path: Path) -> None:
    assert read_hashes(tmp_path) == Hashes({}, {})
    first, second = SourceRecord(1, "aa", "c"), SourceRecord(2, "bb", "")
    made = ComponentRecord(3, "cc", "fp16")
    record_hashes(tmp_path, sources={"o/r/a@main": first})
    record_hashes(tmp_path, sources={"o/r/b@main": second}, components={"star": made})
    assert read_hashes(tmp_path) == Hashes(
        {"o/r/a@main": first, "o/r/b@main": second}, {"star": made}
    )
    replaced = ComponentRecord(4, "dd")
    record_hashes(tmp_path, components={"star": replaced})
    assert read_hashes(tmp_path).components == {"star": replaced}


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            one = {str(number): ComponentRecord(number, "")}
            pool.submit(record_hashes, tmp_path, components=one)
    assert len(read_hashes(tmp_path).components) == 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2}',
        '{"version": 1, "sources": {}}',
        '{"version": 1, "sources": {"a": {"size": 1}}, "components": {}}',
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(WeightsError, match=r"hashes\.json is not a record .*; delete it"):
        read_hashes(tmp_path)


SOURCE = {"size_bytes": 1, "sha256": "aa", "commit": ""}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested"),
        ('{"version": 1, "sources": {}, "components": ' + "[" * 400 + "]" * 400 + "}", "nested"),
        ("[1]", "not consist of a version"),
        ('{"version": 1}', "not consist of a version"),
        ('{"version": 1, "sources": {}, "components": {}, "more": 1}', "not consist of a version"),
        ('{"version": true, "sources": {}, "components": {}}', "version True"),
        ('{"version": 1, "sources": [], "components": {}}', "are not files by name"),
        ('{"version": 1, "sources": {"a": 1}, "components": {}}', "'a' has 1"),
        ('{"version": 1, "sources": {"a": {}, "a": {}}, "components": {}}', "contains 'a' twice"),
        (" " * (1 << 20) + "{}", "more than the 1,048,576 bytes"),
        ("\udcff", "can't decode"),
    ],
)
def test_a_record_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / RECORD_NAME).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=words):
        read_hashes(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size_bytes", "1" * 5000),
        ("size_bytes", -1),
        ("size_bytes", 1 << 60),
        ("size_bytes", 1.5),
        ("size_bytes", True),
        ("sha256", "../x"),
        ("sha256", "a" * 100),
        ("sha256", None),
        ("commit", "a\nb"),
        ("commit", "x" * 1000),
        ("other", 1),
    ],
)
def test_a_record_of_what_no_file_has(tmp_path: Path, key: str, value: object) -> None:
    fields = {"version": 1, "sources": {"a": {**SOURCE, key: value}}, "components": {}}
    (tmp_path / RECORD_NAME).write_text(json.dumps(fields))
    with pytest.raises(WeightsError, match=f"'{key}' of 'a' is "):
        read_hashes(tmp_path)


@pytest.mark.timeout(20)
def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / RECORD_NAME)
    with pytest.raises(WeightsError, match="is not a regular file"):
        read_hashes(tmp_path)
