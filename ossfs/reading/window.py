"""How far ahead of a sequential reader to fetch: a hill climb on measured speed.

A wider window means more requests in flight, which is what a distant store needs and
what a near one, bound by the CPU, only pays for in memory. So beyond its comfort the window
grows by half while the reader has to wait *and* the last growth paid off: measured
against the best that the size before it did, since a busy machine makes rates dip. One
that did not is taken back, and not tried again until PATIENCE more measurements have
passed, then twice as many.

Pure arithmetic on bytes and seconds that the reader hands in; nothing waits here.
"""

from __future__ import annotations

MINIMUM = 4 * 1024 * 1024
"""Bytes of the first window: some requests in flight, little lost when the reader stops."""
COMFORT = 16 * 1024 * 1024
"""Up to here a window doubles for as long as the reader goes on: two requests of a chunk."""
WORTHWHILE = 1.2
"""Growth by half must raise the rate by this factor, or it is taken back: where latency binds it
adds nearly half, and what noise of a busy machine looks like is less."""
MEASURE = 0.1
"""Seconds a rate is measured over at least: a near store passes a window in 10 ms, all noise."""
PATIENCE = 16
"""Measurements to pass at a settled size before a wider one is tried again."""


class Window:
    """The prefetch window of one reader."""

    __slots__ = (
        "_before",
        "_best",
        "_bytes",
        "_hold",
        "_patience",
        "_since",
        "_stalled",
        "comfort",
        "maximum",
        "size",
    )

    def __init__(self, maximum: int, now: float, comfort: int = COMFORT) -> None:
        """Sizes are in bytes; `now` in seconds of the clock that advance() is told."""
        self.maximum = max(maximum, 1)
        self.comfort = comfort
        self.size = min(MINIMUM, self.maximum)
        self._restart(now)
        self._best = 0.0
        """The best rate at the settled size, in bytes a second."""
        self._before = 0
        """The size that the present one is on trial against; 0 when it is settled."""
        self._hold = 0
        self._patience = PATIENCE

    @property
    def near(self) -> bool:
        """Whether no wider window than the comfortable one has been called for."""
        return self.size <= self.comfort

    def stalled(self) -> None:
        """Note that the reader had to wait for bytes of this window."""
        self._stalled = True

    def advance(self, consumed: int, now: float) -> None:
        """Note that the reader went on by `consumed` bytes; judge the size once it is through."""
        self._bytes += consumed
        if self.size < self.comfort and self._bytes >= self.size:
            self.size = min(self.size * 2, self.maximum)
            self._restart(now)
            return
        elapsed = now - self._since
        if self._bytes < self.size or elapsed < MEASURE:
            return
        rate = self._bytes / elapsed
        stalled = self._stalled
        self._restart(now)
        if self._before and rate < self._best * WORTHWHILE:
            self.size = self._before
            self._before = 0
            self._hold = self._patience
            self._patience *= 2
            return
        self._best = rate if self._before else max(rate, self._best)
        self._before = 0
        if self._hold > 0:
            self._hold -= 1
        elif stalled and self.size < self.maximum:
            self._before = self.size
            self.size = min(self.size * 3 // 2, self.maximum)

    def _restart(self, now: float) -> None:
        self._bytes = 0
        self._since = now
        self._stalled = False
