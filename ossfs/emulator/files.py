"""A bucket's data files: where they are, who has them open, and bytes on their way in.

A data file is written once, in full, before anything names it; only appending extends it
later, past what any older record lets a reader see. Unlinking takes it from the directory, not
from those who have it open. One thread uses all of this; `DataFiles.path` may be called from any.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fastcrc import crc64 as fast_crc64

from ossfs.emulator.faults import OssFault
from ossfs.emulator.records import Segment

_KEPT_FILES = 256


class OpenFile:
    """A data file open for reading; closed when the last user lets go of it."""

    __slots__ = ("fd",)

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class DataFiles:
    """The files under one directory, spread over 256 sub-directories."""

    def __init__(self, directory: Path) -> None:
        self._root = str(directory)
        for first in range(256):
            os.makedirs(f"{self._root}/{first:02x}", exist_ok=True)
        self._open: OrderedDict[str, OpenFile] = OrderedDict()

    def new(self) -> str:
        """Return a name that no file has."""
        return f"{random.getrandbits(96):024x}"

    def path(self, file: str) -> str:
        return f"{self._root}/{file[:2]}/{file}"

    def open(self, file: str) -> OpenFile:
        """Open a file, or share it with those who have it open."""
        found = self._open.get(file)
        if found is None:
            found = self._open[file] = OpenFile(self.path(file))
            if len(self._open) > _KEPT_FILES:
                self._open.popitem(last=False)
        return found

    def unlink(self, segments: Sequence[Segment]) -> None:
        """Unlink the segments' files; who has them open keeps them."""
        for file in {segment.file for segment in segments}:
            self._open.pop(file, None)
            os.unlink(self.path(file))

    def take(self, source: DataFiles, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Give the bytes a second owner here, by hard links under new names."""
        names: dict[str, str] = {}
        for segment in segments:
            if segment.file not in names:
                names[segment.file] = self.new()
                os.link(source.path(segment.file), self.path(names[segment.file]))
        return tuple(segment._replace(file=names[segment.file]) for segment in segments)

    def sweep(self, known: set[str]) -> None:
        """Unlink every file that is not `known`."""
        for first in os.scandir(self._root):
            for entry in os.scandir(first.path):
                if entry.name not in known:
                    os.unlink(entry.path)


class Body:
    """Bytes on their way in: written to a new data file and digested as they come.

    `keep` makes the file the caller's; without it the file is gone when the body is closed.
    """

    def __init__(self, files: DataFiles, limit: int, *, md5: bool) -> None:
        self._files = files
        self._limit = limit
        self._fd = -1
        self._file = ""
        self._fast_etag = not md5
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self.size = 0
        self.crc64 = 0

    def write(self, data: bytes) -> None:
        if not data:
            return
        if self.size + len(data) > self._limit:
            raise OssFault("EntityTooLarge")
        if self._fd < 0:
            self._file = self._files.new()
            self._fd = os.open(
                self._files.path(self._file), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            )
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.digest(data)

    def digest(self, data: bytes) -> None:
        """Count and digest bytes that are stored already."""
        if self._md5 is not None:
            self._md5.update(data)
        self.crc64 = fast_crc64.xz(data, self.crc64)
        self.size += len(data)

    def want_md5(self) -> None:
        """Compute the MD5 whatever ETags are made of; before the first byte."""
        if self._md5 is None:
            self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def md5(self) -> bytes | None:
        return None if self._md5 is None else self._md5.digest()

    @property
    def etag(self) -> str:
        """The MD5, as OSS has it; with fast ETags the CRC-64, and in a form no MD5 has."""
        if self._fast_etag:
            return f"{self.crc64:016X}{self.size:016X}-0"
        assert self._md5 is not None
        return self._md5.hexdigest().upper()

    def keep(self) -> tuple[Segment, ...]:
        if self._fd < 0:
            return ()
        os.close(self._fd)
        self._fd = -1
        return (Segment(self._file, 0, self.size),)

    def copy_to(self, fd: int, offset: int) -> None:
        """Copy all that came to another file."""
        done = 0
        while done < self.size:
            done += os.copy_file_range(self._fd, fd, self.size - done, done, offset + done)

    def close(self) -> None:
        """Drop the bytes unless they were kept."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._files.path(self._file))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
