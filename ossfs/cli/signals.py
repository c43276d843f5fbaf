"""How a command ends when it is told to: it cleans up and leaves with 128 + the signal's number.

Ctrl-C is Python's own KeyboardInterrupt; SIGTERM and SIGHUP become `Ended`, raised in the main
thread wherever it is. A signal that was ignored when the command started, as nohup does with
SIGHUP, stays ignored.
"""

from __future__ import annotations

import signal
from types import FrameType

_ASKS = (signal.SIGTERM, signal.SIGHUP)


class Ended(BaseException):
    """A signal asked this command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def raise_when_asked_to_end() -> None:
    """Turn SIGTERM and SIGHUP into `Ended`."""
    for number in _ASKS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def hold() -> None:
    """Let no signal in until `release`, here or in a process started or become meanwhile."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_ASKS, signal.SIGINT))


def release() -> None:
    """Let in what has come since `hold`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_ASKS, signal.SIGINT))


def ignore() -> None:
    """From now on nothing but SIGKILL interrupts: for the last steps, which must not stop halfway.

    The second Ctrl-C of an impatient user must not leave a mount behind.
    """
    for number in (*_ASKS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Ended(number)
