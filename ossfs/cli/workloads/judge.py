"""Who says what has become of files: the directory itself, unless a rig asks the store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastcrc.crc64 import xz

from ossfs.cli.workloads.files import MIB, File, content
from ossfs.cli.workloads.workers import WorkloadError


class Judge:
    """Looks through the directory that the workload has worked in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def settle(self, files: Sequence[File]) -> None:
        """Return once others can read what was written and closed; this is timed.

        Here nothing is waited for: a close that returned is the end of it.
        """

    def check(self, file: File) -> None:
        """Raise WorkloadError unless a file holds what it should, outside of the page cache."""
        path = self._directory / file.path
        with open(path, "rb", buffering=0) as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            read_whole(opened.fileno(), path, file)

    def names(self, directory: str) -> set[str]:
        """Return the names in a directory, none where it is gone."""
        try:
            return set(os.listdir(self._directory / directory))
        except FileNotFoundError:
            return set()


def read_whole(fd: int, path: Path, file: File, wanted: int | None = None) -> None:
    """Read a file to its end; WorkloadError if its bytes, or `wanted`, their CRC-64, differ."""
    buffer = memoryview(bytearray(MIB))
    crc = size = 0
    while got := os.readv(fd, [buffer]):
        crc = xz(buffer[:got], crc)
        size += got
    if wanted is None:
        wanted = content().crc(file.offset, file.size)
    if size != file.size:
        raise WorkloadError(f"{path} has {size} bytes, wanted {file.size}")
    hold(path, crc, wanted)


def hold(path: Path, crc: int, wanted: int, what: str = "") -> None:
    """Raise WorkloadError unless a CRC-64 is the one wanted."""
    if crc != wanted:
        raise WorkloadError(f"{path}{what}: CRC-64 {crc:016x}, wanted {wanted:016x}: wrong bytes")
