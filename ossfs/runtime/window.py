"""How many bytes to have on their way at once: a hill climb on measured speed.

A wider window means more requests in flight, which is what a distant store needs and what a near
one, bound by the CPU, only pays for in memory. So a `Climb` grows by half while its user has to
wait *and* the last growth paid off: measured against the best that the size before it did, since a
busy machine makes rates dip. One that did not is taken back, and not tried again until PATIENCE
more measurements have passed, then twice as many. A `Window` is what is fetched ahead of a
sequential reader: it doubles up to its comfort, and climbs beyond.

Pure arithmetic on numbers that are handed in; nothing waits here.
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


class Climb:
    """A size that grows as long as that pays."""

    __slots__ = ("_before", "_best", "_hold", "_patience", "maximum", "size")

    def __init__(self, size: int, maximum: int) -> None:
        self.maximum = max(maximum, 1)
        self.size = min(size, self.maximum)
        self._best = 0.0
        """The best rate at the settled size since the last trial."""
        self._before = 0
        """The size that the present one is on trial against; 0 when it is settled."""
        self._hold = 0
        self._patience = PATIENCE

    def judge(self, rate: float, stalled: bool, wider: int = 0) -> None:
        """Go on from the rate measured at this size; `stalled`: somebody had to wait.

        `wider` is the least larger size that makes a difference.
        """
        if self._before and rate < self._best * WORTHWHILE:
            self.size = self._before
            self._before = 0
            self._best = 0.0  # one burst would make all later trials look bad
            self._hold = self._patience
            self._patience *= 2
            return
        self._best = rate if self._before else max(rate, self._best)
        self._before = 0
        if self._hold > 0:
            self._hold -= 1
        elif stalled and self.size < self.maximum:
            self._before = self.size
            self.size = min(max(self.size * 3 // 2, self.size + 1, wider), self.maximum)


class Window(Climb):
    """The prefetch window of one reader, in bytes."""

    __slots__ = ("_bytes", "_since", "_stalled", "comfort", "measure")

    def __init__(self, maximum: int, now: float, comfort: int = COMFORT) -> None:
        """`now` in seconds of the clock that advance() is told."""
        super().__init__(MINIMUM, maximum)
        self.comfort = comfort
        self.measure = MEASURE
        self._restart(now)

    @property
    def near(self) -> bool:
        """Whether no wider window than the comfortable one has been called for."""
        return self.size <= self.comfort

    def stalled(self) -> None:
        """Note that the reader had to wait for bytes of this window."""
        self._stalled = True

    def shrink(self, comfort: int) -> None:
        """Find `comfort` enough from now on."""
        self.comfort = comfort
        self.size = min(self.size, comfort)

    def advance(self, consumed: int, now: float) -> None:
        """Note that the reader went on by `consumed` bytes; judge the size once it is through."""
        self._bytes += consumed
        if self.size < self.comfort and self._bytes >= self.size:
            self.size = min(self.size * 2, self.comfort, self.maximum)
            self._hold = max(self._hold, 1)  # the first measurement is of how it fills
            self._restart(now)
            return
        elapsed = now - self._since
        if self._bytes >= self.size and elapsed >= self.measure:
            self.judge(self._bytes / elapsed, self._stalled)
            self._restart(now)

    def _restart(self, now: float) -> None:
        self._bytes = 0
        self._since = now
        self._stalled = False
