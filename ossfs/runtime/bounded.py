"""Calls that may hang in the kernel, made by a child process that can be left behind.

A path that leads through a hung file system makes even stat wait for ever. A thread that waits
there keeps its whole process from ending; so the call is made by a forked child that holds none
of our files, is killed at the deadline, and whom nobody waits for if even that takes its time.

The call sees this process as it was, its effects on memory are lost, and what it returns or
raises is pickled. It must not rely on other threads: in the child there are none.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TypeVar

PATIENCE_S = 4.0
"""How long a path may take to answer before it counts as hung."""
_BURIAL_S = 0.2
"""A killed child is gone by then, unless the kernel holds it."""

_ASKS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError if it takes longer."""
    heard, told = os.pipe()
    # A signal in the middle of a fork would be lost, or end the child in our name.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ASKS)
    try:
        with warnings.catch_warnings():
            # The commands have one thread; where there are others (trio's), see the module's text.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            _answer(call, told, before)
    finally:
        os.close(told)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        answer = _hear(heard, time.monotonic() + seconds)
    finally:
        os.close(heard)
        _end(child)
    if not answer:
        raise ChildProcessError(errno.ECHILD, "the process that was to look at a path died")
    done, value = pickle.loads(answer)
    if not done:
        raise value
    return value  # type: ignore[no-any-return]


def _answer(call: Callable[[], object], told: int, mask: set[int]) -> NoReturn:
    """Make the call and write its outcome; the child's whole life."""
    try:
        signal.set_wakeup_fd(-1)
        # Ctrl-C reaches the whole process group: what has been begun is ended by us, or by nobody.
        for number in _ASKS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Whoever waits for the end of one of our files or pipes must not wait for a hung child.
        # One by one: closerange() may try every number up to the limit, which may be a billion.
        # The standard ones first: the listing needs a number, and there may be no other.
        for fd in {0, 1, 2} - {told}:
            with suppress(OSError):
                os.close(fd)
        for name in os.listdir("/proc/self/fd"):
            if int(name) != told:
                with suppress(OSError):  # the listing's own
                    os.close(int(name))
        with suppress(OSError):
            for _ in range(3):
                os.open(os.devnull, os.O_RDWR)
        try:
            outcome: tuple[bool, object] = (True, call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller, who raises it
            outcome = (False, error)
        with open(told, "wb") as pipe:
            pipe.write(pickle.dumps(outcome))
    finally:
        os._exit(0)


def _hear(fd: int, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    heard = b""
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(fd, 65536)
        if not piece:
            return heard
        heard += piece
    raise TimeoutError


def _end(child: int) -> None:
    """Kill the child, which has answered or never will, and bury it if that is possible."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + _BURIAL_S
    with suppress(ChildProcessError):
        while not os.waitpid(child, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(0.001)
