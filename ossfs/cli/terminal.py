"""What a person at a terminal sees: one line a message, prefixed with the program's name.

Control characters are escaped, because paths and keys may hold newlines and a message is
promised to be one line. Output that cannot be written (a full disk, a reader that has left) is
an error only where it was the point of the command; it is never a traceback, not even at exit.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

_FIRST_FREE = 3
"""Descriptors below are standard input, output and error, to whatever was opened on them."""


def open_standard_descriptors() -> None:
    """Put /dev/null where this process was started without standard input, output or error.

    Otherwise the next file opened, such as the mount's configuration, would be taken for one of
    them by every child. Call it before anything else.
    """
    with suppress(OSError):  # without a /dev/null, whoever needs it will say so
        while (fd := os.open(os.devnull, os.O_RDWR)) < _FIRST_FREE:
            os.set_inheritable(fd, True)
        os.close(fd)
        # Python has None for a stream whose descriptor was closed.
        sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
        sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it already


def one_line(text: str) -> str:
    """Return `text` with everything escaped that would leave the line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """Tell on stdout what has been done; it is done, whether that can be written or not."""
    with suppress(OSError):
        print(f"ossfs: {one_line(text)}")
    finish_output()


def complain(text: str) -> None:
    """Print an error or a warning to stderr; where that is impossible nobody can be told."""
    with suppress(OSError):
        print(f"ossfs: {one_line(text)}", file=sys.stderr)
    _finish(sys.stderr)


def in_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return lines


def finish_output() -> OSError | None:
    """Write what stdout still holds; return why that is impossible, after dropping it."""
    return _finish(sys.stdout)


def _finish(stream: TextIO) -> OSError | None:
    """Write what `stream` still holds; where that is impossible drop it.

    Or the interpreter would try again at exit, with a message and a status of its own.
    """
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        with suppress(OSError):
            stream.flush()
        return error
    return None
