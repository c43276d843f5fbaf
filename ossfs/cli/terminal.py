"""What a person at a terminal sees: one line a message, prefixed with the program's name.

Control characters are escaped, because paths and keys may hold newlines and a message is
promised to be one line.
"""

from __future__ import annotations

import sys


def one_line(text: str) -> str:
    """Return `text` with everything escaped that would leave the line."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def say(text: str) -> None:
    """Print a result to stdout."""
    _print(text, error=False)


def complain(text: str) -> None:
    """Print an error or a warning to stderr."""
    _print(text, error=True)


def _print(text: str, *, error: bool) -> None:
    stream = sys.stderr if error else sys.stdout
    print(f"ossfs: {one_line(text)}", file=stream, flush=True)
