"""Small text files that a user names: keys, options."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

SIZE_LIMIT = 1024 * 1024
"""Bytes; a longer file is something else."""


def read_text(path: str, judge: Callable[[os.stat_result], None] = lambda state: None) -> str:
    """Return a regular file's text; ValueError with the reason when it cannot serve.

    `judge` may raise likewise, on the state of the file that is open: it cannot be exchanged
    between the check and the reading. A symbolic link is as good as what it names.
    """
    try:
        # Without waiting, as a FIFO would make us.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            state = os.fstat(fd)
            if stat.S_ISDIR(state.st_mode):
                raise ValueError("it is a directory")
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("it is no regular file")
            judge(state)
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(SIZE_LIMIT + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise ValueError(f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(raw) > SIZE_LIMIT:
        raise ValueError(f"it is longer than {SIZE_LIMIT} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None


def read_shared_text(path: str) -> tuple[str, bool]:
    """Return a file's text as `read_text`, and whether others than its owner may read it."""
    shared = False

    def note(state: os.stat_result) -> None:
        nonlocal shared
        shared = bool(state.st_mode & (stat.S_IRGRP | stat.S_IROTH))

    return read_text(path, note), shared
