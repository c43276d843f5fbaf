"""Which keys a path can hold, and how a listing's two sequences become one.

A key component that is empty, `.`, `..`, longer than NAME_MAX bytes or holds a NUL has
no path. A file and a directory of the same name: the file wins, as a lookup's HEAD
finds it first (ossfs 2.0 does the same).
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from ossfs.store.api import ListEntry, ListPage

NAME_MAX = 255
"""Bytes of a name in Linux."""
KEY_MAX = 1_023
"""Bytes of an OSS key."""


def speakable(name: bytes) -> bool:
    """Say whether a path can hold `name` as one component."""
    return (
        0 < len(name) <= NAME_MAX
        and name != b"."
        and name != b".."
        and b"\0" not in name
        and b"/" not in name
    )


class PageNames:
    """Turns pages of one listing into names, in order, each once.

    Keeps between pages only the file names that could still meet a directory of the same
    name: `a` lists before `a-b`, which lists before `a/`, and all names in between begin
    with `a`. So a stack of names, each a prefix of the next, is exact and as deep as that.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._stack: list[bytes] = []
        self.skipped: list[bytes] = []
        """Keys of the last page that no path can hold."""

    def names(self, page: ListPage) -> Iterator[tuple[bytes, ListEntry | None]]:
        """Yield (name, entry) in key order; entry None is a directory."""
        self.skipped = []
        cut = len(self._prefix)
        merged: list[tuple[bytes, ListEntry | None]]
        if page.prefixes:
            merged = [(entry.key, entry) for entry in page.entries]
            merged += [(prefix, None) for prefix in page.prefixes]
            merged.sort(key=_by_key)
        else:
            merged = [(entry.key, entry) for entry in page.entries]
        stack = self._stack
        for key, entry in merged:
            name = key[cut:] if entry is not None else key[cut:-1]
            if entry is not None and not name:
                continue  # the directory's own marker object
            if not speakable(name):
                self.skipped.append(key)
                continue
            while stack and not name.startswith(stack[-1]):
                stack.pop()
            if entry is None:
                if stack and stack[-1] == name:
                    continue
            else:
                stack.append(name)
            yield name, entry

    def resume(self, previous: bytes, handed_out: Container[bytes]) -> None:
        """Go on after the name `previous`, of an earlier pass whose files `handed_out` holds."""
        if not previous:
            return
        # Only a name that the next byte of `previous` sorts under its own slash may still meet
        # a directory of the same name.
        self._stack = [
            previous[:cut]
            for cut in range(1, len(previous))
            if previous[cut : cut + 1] < b"/" and previous[:cut] in handed_out
        ]
        self._stack.append(previous)


def _by_key(item: tuple[bytes, ListEntry | None]) -> bytes:
    return item[0]
