"""When this mount last changed what a name stands for.

An answer of the store that was asked for before such a change may be older than what we know: a
page of a listing that was fetched ahead still shows a file that has been removed since. Whoever
takes an answer's word for a name asks here first.

On the trio loop, nothing awaits. Changes are numbered, for a clock may not tick between two. One
is kept for as long as an answer older than it can still come, which the file system tells by
`forget_until`; MOST of them at most, for a page of a directory that somebody keeps open can come
after any time. Beyond that any answer that may be older than one that was forgotten is doubted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ossfs.tree.inodes import Directory

MOST = 100_000
"""Changes that are kept: some 24 MB."""


class Asked(NamedTuple):
    """When the store was asked."""

    change: int
    """Number of our own last change by then."""
    at: float
    """Monotonic seconds."""


class LocalChanges:
    """Names and the number of their last change."""

    def __init__(self, told: Callable[[Directory, bytes], None]) -> None:
        """`told(parent, name)` hears of every change at once."""
        self._told = told
        self._changed: dict[tuple[int, bytes], int] = {}
        self.last = 0
        """Number of the last change."""
        self._lost = 0
        """Number of the last one that was forgotten for want of room."""

    def __bool__(self) -> bool:
        return bool(self._changed)

    def note(self, parent: Directory, name: bytes) -> None:
        """Remember that `name` in `parent` has just been changed."""
        # Out and in again: the dictionary is in the order of the changes.
        self._changed.pop((parent.number, name), None)
        self.last += 1
        self._changed[(parent.number, name)] = self.last
        if len(self._changed) > MOST:
            self._lost = self._changed.pop(next(iter(self._changed)))
        self._told(parent, name)

    def since(self, parent: Directory, name: bytes, asked: Asked) -> bool:
        """Say whether an answer asked for then may be older than our own last change."""
        return self._changed.get((parent.number, name), self._lost) > asked.change

    def forget_until(self, change: int) -> None:
        """Drop the changes up to that one: every answer asked for before them has come."""
        for name, changed in list(self._changed.items()):
            if changed > change:
                return
            del self._changed[name]
