"""The threads that move bulk bytes, and how a trio task waits for one of them.

A job is a plain function that blocks. `TransferPool.run` hands it to a thread and sleeps until
the thread reports by `TrioToken.run_sync_soon`, which costs less than `trio.to_thread` (45 us a
round trip against 70 at 16 in flight) and, with threads that live on, lets each keep its
connection.

Invariant: once a thread has taken a job, `run` does not return before the thread is done with
it, cancelled or not; so the buffers it fills may be reused as soon as `run` is over. A job is
taken exactly once or dropped exactly once: whoever gets its claim lock first decides. No job is
queued unless there is a thread that will come to it.

What runs concurrently: `run`, `aclose` and `statistics` only on the trio thread; workers share
with it the two queues and the thread count, the latter under `_lock`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

import trio

from ossfs.store.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TransferStatistics:
    """A look at the pool at one moment."""

    threads: int
    demand_waiting: int
    """Jobs a reader waits for that no thread has taken; dropped ones may still count."""
    prefetch_waiting: int
    outstanding: int
    """Calls of `run` that have not returned."""


class _Job(Generic[T]):
    __slots__ = ("claim", "error", "fn", "result", "task", "token")

    def __init__(
        self, fn: Callable[[], T], task: trio.lowlevel.Task, token: trio.lowlevel.TrioToken
    ) -> None:
        self.fn: Callable[[], T] | None = fn
        self.task = task
        self.token = token
        self.claim = threading.Lock()
        self.result: T | None = None
        self.error: BaseException | None = None

    def take(self) -> bool:
        """Win the right to run or to drop this job; True for one caller only."""
        return self.claim.acquire(blocking=False)

    def perform(self) -> None:
        """Run on a worker thread and wake the waiting task."""
        fn, self.fn = self.fn, None
        assert fn is not None
        try:
            self.result = fn()
        except BaseException as error:  # noqa: BLE001 - it travels to the task that waits
            self.error = error
        del fn
        # A trio that has crashed has nobody left to tell.
        with suppress(trio.RunFinishedError):
            self.token.run_sync_soon(trio.lowlevel.reschedule, self.task)


class TransferPool:
    """Daemon threads for blocking jobs, two priorities, first come first served within each."""

    def __init__(
        self, max_threads: int, *, idle_seconds: float = 30.0, name: str = "ossfs-transfer"
    ) -> None:
        if max_threads < 1:
            raise ValueError(f"max_threads is {max_threads}, must be at least 1")
        self.max_threads = max_threads
        self._idle_seconds = idle_seconds
        self._name = name
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._demand: deque[_Job[object]] = deque()
        self._prefetch: deque[_Job[object]] = deque()
        # One True for every job ever queued; False sends one thread home.
        self._tickets: SimpleQueue[bool] = SimpleQueue()
        self._outstanding = 0
        self._closed = False
        self._idle = trio.Event()

    async def run(self, fn: Callable[[], T], *, prefetch: bool = False) -> T:
        """Run `fn()` on a transfer thread; return its result or raise its exception.

        Cancelled before a thread took the job, it raises Cancelled at once and `fn` never runs;
        afterwards it waits for `fn` and delivers its outcome, so `fn` must end by itself.
        Demand jobs are taken before any `prefetch` one. Raises ClosedResourceError after close,
        Unavailable where not one thread can be started.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise trio.ClosedResourceError("the transfer pool is closed")
        job: _Job[T] = _Job(fn, trio.lowlevel.current_task(), trio.lowlevel.current_trio_token())

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            if not job.take():
                return trio.lowlevel.Abort.FAILED
            job.fn = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._outstanding += 1
        try:
            self._enqueue(cast("_Job[object]", job), prefetch)
            await trio.lowlevel.wait_task_rescheduled(abort)
            if job.error is not None:
                raise job.error
            return cast("T", job.result)
        finally:
            self._outstanding -= 1
            if self._closed and self._outstanding == 0:
                self._idle.set()
            job.error = None  # its traceback holds this frame, which holds the job

    async def aclose(self) -> None:
        """Refuse new jobs, drop those no thread has taken, wait for those under way.

        A dropped job's `run` raises ClosedResourceError. The wait ignores cancellation, since
        jobs under way hold buffers.
        """
        self._closed = True
        for queue in (self._demand, self._prefetch):
            for job in tuple(queue):
                if job.take():
                    job.fn = None
                    job.error = trio.ClosedResourceError("the transfer pool was closed")
                    trio.lowlevel.reschedule(job.task)
        if self._outstanding:
            with trio.CancelScope(shield=True):
                await self._idle.wait()
        with self._lock:
            leaving = tuple(self._threads)
        for _ in leaving:
            self._tickets.put(False)
        for thread in leaving:
            thread.join()  # idle by now, so this takes microseconds
        await trio.lowlevel.checkpoint_if_cancelled()

    def statistics(self) -> TransferStatistics:
        """Count threads and jobs as they are now."""
        return TransferStatistics(
            threads=len(self._threads),
            demand_waiting=len(self._demand),
            prefetch_waiting=len(self._prefetch),
            outstanding=self._outstanding,
        )

    def _enqueue(self, job: _Job[object], prefetch: bool) -> None:
        with self._lock:  # so that no idle thread leaves until the ticket is there
            # Every outstanding job but this one may occupy a thread; if all do, grow.
            if len(self._threads) < min(self._outstanding, self.max_threads):
                self._grow()
            (self._prefetch if prefetch else self._demand).append(job)
            self._tickets.put(True)

    def _grow(self) -> None:
        """Start a thread; that it cannot be started matters only where there is none yet."""
        thread = threading.Thread(
            target=self._work, name=f"{self._name}-{self._started + 1}", daemon=True
        )
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            if not self._threads:
                raise Unavailable(f"no thread for a request: {error}") from error
            return
        self._started += 1
        self._threads.add(thread)

    def _work(self) -> None:
        while True:
            try:
                go_on = self._tickets.get(timeout=self._idle_seconds)
            except Empty:
                with self._lock:
                    # A ticket put since counted on this thread being there.
                    if self._tickets.empty():
                        self._threads.discard(threading.current_thread())
                        return
                continue
            if not go_on:
                with self._lock:
                    self._threads.discard(threading.current_thread())
                return
            job = self._next()
            if job.take():
                job.perform()
            del job  # or an idle thread would keep the last job's buffers alive

    def _next(self) -> _Job[object]:
        """Take the oldest demand job, else the oldest prefetch; a ticket promises there is one."""
        try:
            return self._demand.popleft()
        except IndexError:
            return self._prefetch.popleft()
