"""The keys of a bucket in byte order, and the pages of a listing cut from them.

Invariant: every key is held once, either in the sorted list or among the newcomers, which are
merged when the order is next needed; so loading a bucket costs no more than sorting it. Not
thread-safe: the owner holds its lock.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

_INSERT_ONE_BY_ONE = 64
"""Up to this many newcomers are inserted singly; sorting the whole list pays for more."""


class KeyPage(NamedTuple):
    """Keys and common prefixes, both in order, and the key to start the next page at."""

    keys: list[bytes]
    prefixes: list[bytes]
    rest: bytes | None


class SortedKeys:
    """A set of keys that can be paged through."""

    def __init__(self) -> None:
        self._sorted: list[bytes] = []
        self._newcomers: list[bytes] = []

    def add(self, key: bytes) -> None:
        """Take a key that is not held yet."""
        self._newcomers.append(key)

    def remove(self, key: bytes) -> None:
        """Drop a key that is held."""
        ordered = self._ordered()
        del ordered[bisect_left(ordered, key)]

    def page(self, prefix: bytes, delimiter: bytes, start: bytes, limit: int) -> KeyPage:
        """Return up to `limit` keys and common prefixes under `prefix`, from key `start` on.

        A directory is stepped over by one search, however much is in it.
        """
        ordered = self._ordered()
        keys: list[bytes] = []
        prefixes: list[bytes] = []
        at = bisect_left(ordered, max(prefix, start))
        while at < len(ordered) and ordered[at].startswith(prefix):
            key = ordered[at]
            if len(keys) + len(prefixes) == limit:
                return KeyPage(keys, prefixes, key)
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                keys.append(key)
                at += 1
            else:
                common = key[: cut + len(delimiter)]
                prefixes.append(common)
                at = bisect_left(ordered, _above_all_under(common), lo=at + 1)
        return KeyPage(keys, prefixes, None)

    def _ordered(self) -> list[bytes]:
        if len(self._newcomers) <= _INSERT_ONE_BY_ONE:
            for key in self._newcomers:
                insort(self._sorted, key)
        else:
            self._sorted += self._newcomers
            self._sorted.sort()
        self._newcomers.clear()
        return self._sorted


def just_after(key: bytes) -> bytes:
    """Return the least byte string greater than `key`."""
    return key + b"\x00"


def _above_all_under(prefix: bytes) -> bytes:
    """Return the least byte string above everything that starts with `prefix`.

    It ends in a delimiter, never in 0xFF, which no UTF-8 text contains.
    """
    return prefix[:-1] + bytes((prefix[-1] + 1,))
