"""Names that the store has said there are none of, for a while.

An LRU of full keys, as in ossfs 2.0 (oss_negative_cache_timeout, oss_negative_cache_size). A name
that gets an inode, by our own doing or by a listing, is no absence any more. On the trio loop,
nothing awaits.
"""

from __future__ import annotations

from collections.abc import Callable

from cachetools import TTLCache


class Absences:
    """Keys that do not exist, each for `seconds`; 0 remembers nothing."""

    def __init__(self, seconds: float, size: int, now: Callable[[], float]) -> None:
        self._seconds = seconds
        self._now = now
        self._keys: TTLCache[bytes, float] | None = (
            TTLCache(size, seconds, timer=now) if seconds > 0 else None
        )

    def __contains__(self, key: bytes) -> bool:
        return self._keys is not None and key in self._keys

    def age(self, key: bytes) -> float:
        """Return the seconds since the store said so; all of them for one that is just over."""
        if self._keys is None:
            return 0.0
        said = self._keys.get(key)
        return self._seconds if said is None else self._now() - said

    def add(self, key: bytes) -> None:
        if self._keys is not None:
            self._keys[key] = self._now()

    @property
    def remembered(self) -> bool:
        """Whether there may be anything to discard: to be asked before a key is made."""
        return self._keys is not None and self._keys.currsize > 0

    def discard(self, key: bytes) -> None:
        if self._keys is not None:
            self._keys.pop(key, None)

    def clear(self) -> None:
        """Forget all: a directory has got a new name, and what is below it with it."""
        if self._keys is not None:
            self._keys.clear()
