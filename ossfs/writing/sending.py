"""How many parts are on their way at once, for all uploads of the mount together.

upload_concurrency is the most. Within it the number climbs as far as it pays: a distant store
needs many parts on their way to be kept busy, one nearby only takes longer for each of them, and
all that wait fill memory. Measured is how long parts take. If half as many again take no longer,
that is half as fast again; if each takes half as long again, it is nothing but memory.

Uploads that send share the number evenly; each may always have one part on its way. All on the
trio loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from ossfs.runtime.window import Climb

COMFORT = 64 * 1024 * 1024
"""Bytes on their way to begin with: a near store is as fast with 8 parts of 8 MiB as with 64."""
FORGOTTEN_S = 60.0
"""Seconds without an upload after which it begins anew: the network may be another by then, and a
number that noise made look good is not to last as long as the mount."""


class Sending:
    """The parts of a mount that are on their way."""

    def __init__(self, concurrency: int, part: int, now: Callable[[], float]) -> None:
        """`part` in bytes, `now` the monotonic clock."""
        self.limiter = trio.CapacityLimiter(concurrency)
        """What nothing gets by, neither writers short of memory nor many uploads at once."""
        self._now = now
        self._first, self._limit = max(COMFORT // part, 2), concurrency
        self._climb = Climb(self._first, self._limit)
        self._idle_since = now()
        self._uploads = 0
        """Uploads with parts on their way."""
        self._parts = 0
        """Parts that are being sent."""
        self._most = 0
        """The most of them since the number was judged last."""
        self._restart()

    def share(self) -> int:
        """Return how many parts one upload may have on their way."""
        return max(1, self._climb.size // max(1, self._uploads))

    def began(self) -> None:
        """Note that an upload has its first part on the way."""
        if not self._uploads and self._now() - self._idle_since > FORGOTTEN_S:
            self._climb = Climb(self._first, self._limit)
        self._uploads += 1

    def ended(self) -> None:
        """Note that an upload has none any more."""
        self._uploads -= 1
        self._idle_since = self._now()

    def waited(self) -> None:
        """Note that a writer waits until another part may be sent."""
        self._stalled = True

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count a part while it is sent, and learn from the time it takes."""
        self._parts += 1
        self._most = max(self._most, self._parts)
        size, begun = self._climb.size, self._now()
        try:
            yield
            if size == self._climb.size:
                self._learn(self._now() - begun)
        finally:
            self._parts -= 1

    def _learn(self, seconds: float) -> None:
        self._sent += 1
        self._seconds += seconds
        if self._sent >= self._climb.size and self._stalled and self._seconds:
            rate = self._most * self._sent / self._seconds
            # A trial that gives no upload another part would say that more are of no use.
            wider = (self.share() + 1) * self._uploads
            self._climb.judge(rate, stalled=True, wider=wider)
            self._restart()

    def _restart(self) -> None:
        self._sent = 0
        self._seconds = 0.0
        self._most = self._parts
        self._stalled = False
