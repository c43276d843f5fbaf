"""Concurrent identical requests are one request.

The first caller runs it, in its own task; the others wait for its outcome. When the
first is cancelled the next caller runs it itself, so nobody inherits a cancellation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[V]):
    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: V | None = None
        self.error: Exception | None = None


class SingleFlight(Generic[K, V]):
    """Calls under way by key."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def run(self, key: K, call: Callable[[], Awaitable[V]], *, fresh: bool = False) -> V:
        """Return the outcome of `call`, or of the call under way for `key`.

        `fresh`: only of one that begins from now on, which all who wait for it share.
        """
        if fresh and key in self._flights:
            await self._flights[key].done.wait()
        while (flight := self._flights.get(key)) is not None:
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error.with_traceback(None)
            if flight.value is not None:
                return flight.value
        flight = self._flights[key] = _Flight()
        try:
            flight.value = await call()
            return flight.value
        except Exception as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()
