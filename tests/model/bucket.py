"""The plain model: every state a bucket was in, and what the names in it stand for.

Changes go through it to the real store, so the two never differ. Nothing awaits here.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

from ossfs.tree.names import speakable
from tests.support.core import Core


class Version(NamedTuple):
    """What a name may stand for: an object's bytes, a directory (None), or nothing at all."""

    data: bytes | None
    exists: bool = True


DIRECTORY = Version(None)
NOTHING = Version(None, exists=False)


class Bucket:
    """Every state that the bucket was in, and when each ended."""

    def __init__(self, made: Core) -> None:
        self._made = made
        self.now: dict[bytes, bytes] = {}
        self._past: list[tuple[float, dict[bytes, bytes]]] = []
        self._serial = 0

    def put(self, key: bytes, size: int) -> None:
        self._serial += 1
        mark = b"%08d" % self._serial
        self._change(key, (mark * (size // 8 + 1))[:size])

    def delete(self, key: bytes) -> None:
        self._change(key, None)

    def _change(self, key: bytes, data: bytes | None) -> None:
        self._past.append((trio.current_time(), dict(self.now)))
        if data is None:
            self.now.pop(key, None)
            self._made.delete(key)
        else:
            self.now[key] = data
            self._made.put(key, data)

    def ever(self) -> list[dict[bytes, bytes]]:
        """All states, the latest first."""
        return [self.now, *(state for _, state in reversed(self._past))]

    def at(self, moment: float) -> list[dict[bytes, bytes]]:
        """The states that were true at `moment`; several where it changed just then."""
        states, began = [], float("-inf")
        for ended, state in [*self._past, (float("inf"), self.now)]:
            if began <= moment <= ended:
                states.append(state)
            began = ended
        return states


def stands_for(state: dict[bytes, bytes], key: bytes) -> Version:
    """What a lookup of `key` finds: the file wins."""
    if key in state:
        return Version(state[key])
    below = key + b"/"
    return DIRECTORY if any(other.startswith(below) for other in state) else NOTHING


def shown(state: dict[bytes, bytes], prefix: bytes) -> set[bytes]:
    """Names of a directory, each of a directory with a slash, whether or not a file hides it."""
    found = set()
    for key in state:
        if key.startswith(prefix):
            name, slash, _ = key[len(prefix) :].partition(b"/")
            if speakable(name):
                found.add(name + slash)
    return found
