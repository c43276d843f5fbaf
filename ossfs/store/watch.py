"""What is asked of the store right now, and the log lines an operator gets when it goes badly.

Two kinds of line, both at WARNING and both bounded: one when requests have been waiting for
over ten seconds, one for a request that failed for good, at most one a minute for each operation
and code, with the number left out. Answers such as "no such object" are results, not failures,
and are never logged.

What runs concurrently: everything here is touched on the trio loop only, but for
`ClientStats.note_first_bytes`; times are trio's.
"""

from __future__ import annotations

import logging
import math

import trio

from ossfs.store.errors import (
    Changed,
    Exists,
    Invalid,
    NotAppendable,
    NotFound,
    PositionConflict,
    StoreError,
    TooLarge,
)

SLOW_SECONDS = 10.0
REPEAT_SECONDS = 60.0
_TICK_SECONDS = 1.0
_FORGETTING = 1.1
"""What a time is raised by for each GET that took longer: a tenfold one counts after 25."""

_ANSWERS = (NotFound, Changed, Exists, Invalid, NotAppendable, PositionConflict, TooLarge)


class ClientStats:
    """Plain counters since the start; the exporter reads them."""

    __slots__ = (
        "bytes_read",
        "bytes_written",
        "failures",
        "quickest",
        "requests",
        "retries",
        "throttled",
    )

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        """Attempts by operation."""
        self.retries = 0
        self.failures = 0
        """Requests that raised a StoreError to their caller, answers included."""
        self.throttled = 0
        self.bytes_read = 0
        self.bytes_written = 0
        self.quickest = math.inf
        """Seconds until the first buffer of a GET is full, nearly at its best: how far away the
        store is, however busy this machine may be just now."""

    def count_request(self, op: str) -> None:
        self.requests[op] = self.requests.get(op, 0) + 1

    def note_first_bytes(self, seconds: float) -> None:
        """Note how long the first buffer of a GET took; any thread may."""
        self.quickest = min(seconds, self.quickest * _FORGETTING)


class Flight:
    """One request under way."""

    __slots__ = ("attempts", "begun", "error", "key", "op", "quiet")

    def __init__(self, op: str, key: bytes, *, quiet: bool = False) -> None:
        self.op = op
        self.key = key
        self.quiet = quiet
        """Its failure is for the caller alone to report."""
        self.begun = 0.0
        self.attempts = 0
        self.error: StoreError | None = None
        """Why the last attempt failed, if one has."""

    def describe(self) -> str:
        """Say what is waited for, for a log line."""
        text = f"{self.op} {self.key.decode('utf-8', 'backslashreplace')!r}"
        if self.attempts > 1:
            text += f", attempt {self.attempts}"
        if self.error is not None:
            text += f" after {type(self.error).__name__}: {self.error}"
        return text


class RequestWatch:
    """Knows every request in flight, oldest first."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._flights: dict[Flight, None] = {}
        self._reported_slow = float("-inf")
        self._reported: dict[tuple[str, str], tuple[float, int]] = {}

    def add(self, flight: Flight) -> None:
        """Count `flight` as under way until it is removed."""
        flight.begun = trio.current_time()
        self._flights[flight] = None

    def remove(self, flight: Flight) -> None:
        """Count `flight` as over."""
        del self._flights[flight]
        flight.error = None  # its traceback holds the frame that holds the flight

    async def run(self) -> None:
        """Look for slow requests every second, for ever."""
        while True:
            await trio.sleep(_TICK_SECONDS)
            self.report_slow()

    def report_slow(self) -> None:
        """Log what has been waited for longest, if it is over ten seconds, once a minute."""
        now = trio.current_time()
        if now - self._reported_slow < REPEAT_SECONDS:
            return
        slow = [flight for flight in self._flights if now - flight.begun >= SLOW_SECONDS]
        if slow:
            self._reported_slow = now
            oldest = slow[0]
            self._log.warning(
                "waiting for the store: %d request(s) for over %.0f s, the longest %.1f s: %s",
                len(slow),
                SLOW_SECONDS,
                now - oldest.begun,
                oldest.describe(),
            )

    def failed(self, flight: Flight, error: StoreError) -> None:
        """Log a request that failed for good, unless its like was logged within a minute."""
        if flight.quiet or isinstance(error, _ANSWERS):
            return
        kind = (flight.op, error.code or type(error).__name__)
        now = trio.current_time()
        last, left_out = self._reported.get(kind, (float("-inf"), 0))
        if now - last < REPEAT_SECONDS:
            self._reported[kind] = (last, left_out + 1)
            return
        self._reported[kind] = (now, 0)
        self._log.warning(
            "%s %r failed after %d attempt(s): %s: %s%s",
            flight.op,
            flight.key.decode("utf-8", "backslashreplace"),
            flight.attempts,
            type(error).__name__,
            error,
            f" ({left_out} more of this kind since the last such line)" if left_out else "",
        )
