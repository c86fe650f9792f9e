"""One thing made while the one before it is used."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Generic, TypeVar

from starvsr.media.deadline import stopping_with

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """Iterates over what a generator makes, whose next item is made by another thread meanwhile; never two.

    An error of the generator comes in place of its item. Whoever is done closes it, which waits for what is being made,
    but for a file that is read no longer than a moment.
    """

    def __init__(self, source: Generator[Item, None, None]) -> None:
        self._source = source
        self._stop = Event()
        self._pool = ThreadPoolExecutor(1)
        self._next = self._pool.submit(self._make)

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        made = self._next.result()
        if not made:
            raise StopIteration
        self._next = self._pool.submit(self._make)
        return made[0]

    def close(self) -> None:
        """End the thread, and the generator."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._source.close()

    def _make(self) -> tuple[Item, ...]:
        """The next item, or none."""
        with stopping_with(self._stop):
            for item in self._source:
                return (item,)
        return ()
