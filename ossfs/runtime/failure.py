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
"""

from __future__ import annotations

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
