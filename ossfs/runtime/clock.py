"""Time as a parameter, so that tests move it instead of sleeping.

`Clock` is read by caches and retry rules. Waiting is trio's business
(`trio.sleep`, mocked by `trio.testing.MockClock`), never this module's.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; comparable within one process only."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        ...


class SystemClock:
    """The operating system's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
