"""Processes that get ready, wait for each other, and work once, so that no client is the limit.

They are forked: what is timed begins with all of them ready, and includes neither the start of an
interpreter nor anything that `make` does. Each runs several members, a thread each. No other
thread of this process may hold a lock that the work needs. Ctrl-C is for the parent, which kills
them.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, NamedTuple, NoReturn, Self, TypeVar

PROCESSES = 4
_ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


class WorkloadError(Exception):
    """A workload found something wrong, or could not do its work; the message is one line."""


class _Worker(NamedTuple):
    pid: int
    go: int
    """A byte written there lets it work."""
    told: int
    """It writes a byte when it is ready, one when it has worked, then what came of it."""


class Workers(Generic[T]):
    """A context manager; `make(member)` gets ready and returns what is to be timed."""

    def __init__(self, members: int, make: Callable[[int], Callable[[], T]]) -> None:
        self._members = members
        self._make = make
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        try:
            count = min(PROCESSES, self._members)
            for number in range(count):
                self._start(range(number, self._members, count))
            for worker in self._workers:
                if os.read(worker.told, 1) != b"\1":
                    raise _failure(worker)
        except BaseException:
            self._end()
            raise
        return self

    def work(self) -> None:
        """Let all of them work and wait until all have, well or not: what is to be timed."""
        for worker in self._workers:
            os.write(worker.go, b"\1")
        for worker in self._workers:
            os.read(worker.told, 1)

    def results(self) -> list[T]:
        """Return what the members' work has returned; WorkloadError if one failed."""
        found: list[T] = []
        for worker in self._workers:
            done, value = _heard(worker)
            if not done:
                raise WorkloadError(value)
            found += value
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _start(self, members: Sequence[int]) -> None:
        wait, go = os.pipe()
        told, tell = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)
        try:
            pid = os.fork()
            if not pid:
                for fd in (go, told, *(fd for each in self._workers for fd in each[1:])):
                    os.close(fd)
                self._live(members, wait, tell, before)
            self._workers.append(_Worker(pid, go, told))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(wait)
            os.close(tell)

    def _live(self, members: Sequence[int], wait: int, tell: int, mask: set[int]) -> NoReturn:
        """Prepare, wait, work, tell; the child's whole life."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            try:
                calls = [self._make(member) for member in members]
                os.write(tell, b"\1")
                if not os.read(wait, 1):
                    os._exit(0)  # the parent is gone
                outcome: tuple[bool, object] = (True, _all(calls))
            except Exception as error:  # noqa: BLE001  carried over to the parent, who raises it
                outcome = (False, line_of(error))
            with open(tell, "wb") as pipe:
                pipe.write(b"\2" + pickle.dumps(outcome))
        finally:
            os._exit(0)

    def _end(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        for worker in self._workers:
            os.waitpid(worker.pid, 0)
            os.close(worker.go)
            os.close(worker.told)
        self._workers.clear()


def together(members: int, make: Callable[[int], Callable[[], T]]) -> list[T]:
    """Do the members' work, several at once, without timing it; return what came of it."""
    with Workers(members, make) as workers:
        workers.work()
        return workers.results()


def _all(calls: Sequence[Callable[[], T]]) -> list[T]:
    if len(calls) == 1:
        return [calls[0]()]
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call(), calls))


def _heard(worker: _Worker) -> tuple[bool, Any]:
    with open(worker.told, "rb", closefd=False) as pipe:
        data = pipe.read()
    if not data:
        return False, f"process {worker.pid}, which worked for the benchmark, was killed"
    return pickle.loads(data)  # type: ignore[no-any-return]


def _failure(worker: _Worker) -> WorkloadError:
    """Return why a worker did not get ready; the byte before its message has been read."""
    return WorkloadError(_heard(worker)[1])


def line_of(error: Exception) -> str:
    """Say in a line what went wrong."""
    if isinstance(error, WorkloadError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
