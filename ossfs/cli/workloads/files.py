"""The files a workload needs beforehand, and those it writes: names, sizes, and which bytes.

A file's bytes are a stretch of one `Content`, no two files the same, except that those that only
have a name to be listed, renamed or removed hold one byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ossfs.cli.workloads.content import Content

MIB = 1 << 20
SMALL = 128 * 1024
QUARTERS = 4
_COLD_FOLDERS = 10


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is of everything."""

    large: int
    """Bytes of the large file; a multiple of 4 MiB."""
    small: int
    """Files of 128 KiB."""
    listed: int
    """Files of the directory that `ls` shows."""
    folders: int
    each: int
    """Files in each of the `folders` that `find` goes through."""
    names: int
    """Files of a directory that is renamed or removed, and of those that are only looked at."""
    reads: int
    """Random reads of one reader; several make four times as many between them."""

    def sized(self, large: int) -> Scale:
        """Return the same with another large file, of `large` bytes rounded up."""
        unit = QUARTERS * MIB
        return replace(self, large=-(-large // unit) * unit)


FULL = Scale(1024 * MIB, 2_000, 20_000, 23, 1_000, 500, 500)
"""What the figures of docs/BENCHMARKS.md are of."""
USUAL = Scale(256 * MIB, 512, 20_000, 23, 1_000, 500, 500)
QUICK = Scale(16 * MIB, 64, 60, 3, 10, 20, 40)


class File(NamedTuple):
    """A file and what it holds: `size` bytes of the content from `offset` on."""

    path: str
    """Relative to the directory that the workloads have."""
    offset: int
    size: int


@cache
def content() -> Content:
    """Return what all files hold stretches of."""
    return Content()


def _large(scale: Scale, turn: str) -> Iterator[File]:
    yield File("large", 0, scale.large)


def _quarters(scale: Scale, turn: str) -> Iterator[File]:
    size = scale.large // QUARTERS
    for number in range(QUARTERS):
        yield File(f"quarters/{number}", scale.large + number * size, size)


def _small(scale: Scale, turn: str) -> Iterator[File]:
    for number in range(scale.small):
        yield File(f"small/{number:05d}", 2 * scale.large + number * SMALL, SMALL)


def _listed(scale: Scale, turn: str) -> Iterator[File]:
    for number in range(scale.listed):
        yield File(f"listed/{number:05d}", 0, 1)


def _tree(scale: Scale, turn: str) -> Iterator[File]:
    for folder in range(scale.folders):
        for number in range(scale.each):
            yield File(f"tree/{folder:02d}/{number:05d}", 0, 1)


def _cold(scale: Scale, turn: str) -> Iterator[File]:
    for number in range(scale.names):
        yield File(f"cold/{number % _COLD_FOLDERS}/{number:05d}", 0, 1)


def _old(scale: Scale, turn: str) -> Iterator[File]:
    for number in range(scale.names):
        yield File(f"old-{turn}/{number:05d}", 0, 1)


def _gone(scale: Scale, turn: str) -> Iterator[File]:
    for number in range(scale.names):
        yield File(f"gone-{turn}/{number:05d}", 0, 1)


DATASETS: dict[str, Callable[[Scale, str], Iterator[File]]] = {
    "large": _large,
    "quarters": _quarters,
    "small": _small,
    "listed": _listed,
    "tree": _tree,
    "cold": _cold,
    "old": _old,
    "gone": _gone,
}
"""Name: (scale, turn) -> files."""
CONSUMED = frozenset({"old", "gone"})
"""Those that are there for one turn alone, with its name."""


def written(scale: Scale, directory: str, writers: int) -> list[File]:
    """Return the large files that some writers make: the bytes of one, divided among them."""
    base, size = 2 * scale.large + scale.small * SMALL, scale.large // writers
    return [File(f"{directory}/{number}", base + number * size, size) for number in range(writers)]


def written_small(scale: Scale, directory: str) -> list[File]:
    """Return the small files that are written."""
    base = 3 * scale.large + scale.small * SMALL
    return [
        File(f"{directory}/{number:05d}", base + number * SMALL, SMALL)
        for number in range(scale.small)
    ]


def write(directory: Path, file: File) -> None:
    """Write a file in pieces of 1 MiB at most, and close it; its directory must be there."""
    with open(directory / file.path, "wb", buffering=0) as out:
        for piece in content().slices(file.offset, file.size):
            for start in range(0, len(piece), MIB):
                left = piece[start : start + MIB]
                while left:
                    left = left[out.write(left) :]
