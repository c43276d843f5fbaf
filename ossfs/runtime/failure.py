"""Errors a user can cause: one class, one line, one documented exit status.

Statuses (docs/OPERATIONS.md repeats them):
    0 success
    1 anything not below
    2 bad command line, option or configuration
    3 mount point missing, not a directory, not empty, or busy
    4 FUSE is not usable here (/dev/fuse, fusermount3, permission)
    5 credentials missing, malformed, refused, or their file readable by others
    6 no such bucket
    7 the endpoint cannot be reached or does not answer in time
    128 + N ended by signal N
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class ExitStatus(IntEnum):
    OK = 0
    FAILURE = 1
    USAGE = 2
    MOUNTPOINT = 3
    FUSE = 4
    CREDENTIALS = 5
    NO_BUCKET = 6
    UNREACHABLE = 7


class UserError(Exception):
    """Something the user can mend; `message` is one line that names the thing and the remedy."""

    def __init__(self, message: str, status: ExitStatus = ExitStatus.FAILURE) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class FileSystemError(Exception):
    """An operation on the mount is answered with an errno that does not come from the store."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


def cause_of(error: BaseException) -> BaseException:
    """Return what an exception group stands for: a UserError in it, else its first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause_of(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, UserError)), causes[0])


def remedy_of(error: BaseException) -> str | None:
    """Say which limit of the system an error comes from and how to raise it; None: from none."""
    number = error.errno if isinstance(error, OSError) else None
    unmapped = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or unmapped:
        return "out of memory; give it more: ulimit -v, the cgroup's limit, or the machine's"
    if number in (errno.EMFILE, errno.ENFILE):
        return "too many open files; permit more: ulimit -n"
    if number == errno.EAGAIN or "can't start new thread" in str(error):
        return "no further process or thread may be started; permit more: ulimit -u, ulimit -v"
    return None


def in_a_line(error: BaseException) -> str:
    """Say what went wrong although no user error is known for it."""
    error = cause_of(error)
    if isinstance(error, UserError):
        return error.message
    remedy = remedy_of(error)
    if remedy is not None:
        return remedy
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"internal error: {type(error).__name__}: {error}"
