"""A directory that one process uses at a time, for as long as it lives."""

from __future__ import annotations

import fcntl
import os

from ossfs.runtime.failure import ExitStatus, UserError


def lock_directory(option: str, directory: str, name: str) -> int:
    """Take a directory by a lock on its file `name`; return the descriptor that holds it.

    Raises UserError, which names the option, when somebody else has it or it cannot be used.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(os.path.join(directory, name), flags, 0o600)
    except OSError as error:
        raise unusable(option, directory, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(
            f"{option}: {directory} is in use by another mount; give each its own",
            ExitStatus.USAGE,
        ) from None
    except OSError as error:
        os.close(lock)
        raise unusable(option, directory, error) from None
    return lock


def unusable(option: str, directory: str, error: OSError) -> UserError:
    """Return what to tell a user whose directory is of no use."""
    return UserError(
        f"{option}: {directory} cannot be used ({error.strerror}); give an existing directory that "
        "the mounting user can write to",
        ExitStatus.USAGE,
    )
