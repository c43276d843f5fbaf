"""Where a blocking call to the store runs, so that the client does not need to know.

`ThreadRunner` is the daemon's; `InlineRunner` calls on the trio loop itself, for tests whose
clock is trio's MockClock. Invariant of both: `run` with a carrier other than ABANDONABLE does
not return before the call is over, cancelled or not.

What runs concurrently: calls of one trio loop; the calls themselves run in any thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Protocol, TypeVar

import trio

from ossfs.store.errors import Unavailable
from ossfs.store.transfer import TransferPool

T = TypeVar("T")


class Carrier(Enum):
    """What kind of thread a call wants."""

    ABANDONABLE = auto()
    """A control thread; on cancellation the call is left to end alone, for it changes nothing."""
    CONTROL = auto()
    """A control thread; it changes the bucket or holds buffers, so it is always waited for."""
    DEMAND = auto()
    """A transfer thread; somebody waits for the bytes."""
    PREFETCH = auto()
    """A transfer thread once no demand is waiting."""


class Runner(Protocol):
    """Carries calls; `op` and `key` only tell whose call it is."""

    async def run(self, op: str, key: bytes, call: Callable[[], T], carrier: Carrier) -> T:
        """Return what `call()` returns or raise what it raises; Unavailable without a thread."""
        ...


class ThreadRunner:
    """Control calls in trio's worker threads, bulk calls in the transfer pool if there is one."""

    def __init__(self, control_threads: int, transfer: TransferPool | None) -> None:
        self._limiter = trio.CapacityLimiter(control_threads)
        self._transfer = transfer

    async def run(self, op: str, key: bytes, call: Callable[[], T], carrier: Carrier) -> T:
        if self._transfer is not None and carrier in (Carrier.DEMAND, Carrier.PREFETCH):
            return await self._transfer.run(call, prefetch=carrier is Carrier.PREFETCH)
        started = False

        def begin() -> T:
            nonlocal started
            started = True
            return call()

        try:
            return await trio.to_thread.run_sync(
                begin, abandon_on_cancel=carrier is Carrier.ABANDONABLE, limiter=self._limiter
            )
        except RuntimeError as error:
            if started:
                raise
            raise Unavailable(f"no thread for a request: {error}") from error


async def _pass(_op: str, _key: bytes) -> None:
    await trio.lowlevel.checkpoint()


class InlineRunner:
    """Every call on the loop itself, between two checkpoints as a thread's would be.

    `gate(op, key)` is awaited before each call: a test holds a request in flight there.
    """

    def __init__(self, gate: Callable[[str, bytes], Awaitable[None]] = _pass) -> None:
        self._gate = gate

    async def run(self, op: str, key: bytes, call: Callable[[], T], carrier: Carrier) -> T:
        await self._gate(op, key)
        try:
            return call()
        finally:
            with trio.CancelScope(shield=carrier is not Carrier.ABANDONABLE):
                await trio.lowlevel.checkpoint()
