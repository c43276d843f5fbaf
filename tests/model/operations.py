"""Operations on a mount that is written, and what comes of them, as data."""

from __future__ import annotations

from typing import NamedTuple


class Mode(NamedTuple):
    """How the mount writes."""

    name: str
    part: int
    """Bytes up to which a file is one request."""
    minimum: int
    """Bytes a part that is copied must have."""
    random: bool = False
    """Staged: any place, several writers."""
    grows: bool = False
    """Appendable: the object grows while it is written."""
    cached: bool = False
    """A kernel keeps pages, and answers from them after the file system has failed."""
    filer: bool = False
    """The server keeps keys as paths: no object is below another."""
    timeout: float = 0.0
    """attr_timeout: seconds for which a change from outside may go unnoticed."""

    @property
    def pieces(self) -> list[int]:
        """Sizes of writes: on both sides of the limits."""
        part, least = self.part, self.minimum
        small = [1, 7, least - 1, least, least + 1, 4_096]
        return [*small, part - least, part - 1, part, part + 1, part + least, 2 * part + 11]

    @property
    def most(self) -> int:
        """Bytes no file gets larger than."""
        return 6 * self.part


class Operation(NamedTuple):
    """One step, as both drivers perform it."""

    what: str
    path: bytes = b""
    to: bytes = b""
    mode: str = ""
    handle: int = 0
    offset: int | None = None
    """None: at the end."""
    size: int = 0
    data: bytes = b""

    def __repr__(self) -> str:
        told = {name: value for name, value in self._asdict().items() if value not in (b"", "", 0)}
        if self.data:
            told["data"] = len(self.data)
        words = [f"{name}={value!r}" for name, value in told.items() if name != "what"]
        return " ".join([self.what, *words])


class Outcome(NamedTuple):
    """What came of it."""

    errno: int = 0
    data: bytes = b""
    """Bytes read, even where an error ended that."""
    size: int = 0
    """Bytes written, or the size of a file."""


class Seen(NamedTuple):
    """A name in the tree."""

    size: int | None
    """Bytes; None: a directory."""
    data: bytes | None = None
    """None: not looked at."""
    errno: int = 0
    """Why the bytes could not be read."""


def parent_of(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def below(path: bytes) -> bytes:
    """The prefix of everything in a directory."""
    return path + b"/" if path else b""


def apart(one: bytes, other: bytes) -> bool:
    """Whether neither of two paths leads through the other."""
    return not (below(one).startswith(below(other)) or below(other).startswith(below(one)))
