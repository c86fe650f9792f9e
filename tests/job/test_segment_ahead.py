"""One item is made while the one before it is used: order, errors, the end, and never two ahead."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from starvsr.job.segment import Ahead
from starvsr.media.deadline import within_deadline

SECONDS = 30.0


def test_items_come_in_order_and_end() -> None:
    with closing(Ahead(number for number in range(5))) as items:
        assert list(items) == [0, 1, 2, 3, 4]
        assert list(items) == []


def test_the_next_item_is_made_by_another_thread_before_it_is_asked_for_and_no_more() -> None:
    made: list[int] = []
    second = threading.Event()

    def source() -> Generator[int, None, None]:
        for number in range(4):
            made.append(number)
            if number == 1:
                second.set()
            yield threading.get_ident()

    with closing(Ahead(source())) as items:
        first = next(items)
        assert first != threading.get_ident()
        assert second.wait(SECONDS)
        assert made == [0, 1]


def test_an_error_comes_in_place_of_its_item() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise OSError("gone")

    with closing(Ahead(source())) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_closing_early_closes_the_generator_and_its_thread() -> None:
    closed = threading.Event()

    def source() -> Generator[int, None, None]:
        try:
            yield from range(10)
        finally:
            closed.set()

    before = threading.active_count()
    with closing(Ahead(source())) as items:
        assert next(items) == 0
    assert closed.is_set()
    assert threading.active_count() == before


def test_closing_does_not_wait_for_a_file_that_never_answers() -> None:
    hanging, end = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        end.wait()

    def source() -> Generator[int, None, None]:
        within_deadline("a.mp4", hang)
        yield 0

    before = set(threading.enumerate())
    items = Ahead(source())
    assert hanging.wait(SECONDS)
    items.close()
    (left,) = set(threading.enumerate()) - before
    # Others would keep the process from ending.
    assert left.daemon
    end.set()
    left.join(SECONDS)
