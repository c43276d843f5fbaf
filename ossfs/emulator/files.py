"""A bucket's data files: where they are, who works with them, and bytes on their way in.

A data file is written once, in full, before anything names it; only appending extends it
later, past what any older record lets a reader see. Whoever is to work with files for longer
than until its next `await` takes a `Lease` of them: what is unlinked meanwhile stays until the
last lease of it is over. So a reader needs one descriptor at a time, however many files its
object has, and still sees one version whole. A directory that is removed goes with the last
lease of it, too. One thread uses all of this; `DataFiles.descriptor` may be called from any.
"""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fastcrc import crc64 as fast_crc64

from ossfs.emulator.faults import OssFault
from ossfs.emulator.records import Segment

_MOST_KEPT = 256


class OpenFile:
    """A data file open for reading; closed when the last user lets go of it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class OpenFiles:
    """The files read last, kept open for whoever reads them next; all buckets share one.

    It keeps an eighth of what the process may have open at most: the rest is for connections.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = _MOST_KEPT if allowed < 0 else min(_MOST_KEPT, allowed // 8)

    def get(self, file: str) -> OpenFile | None:
        return self._open.get(file)

    def keep(self, file: str, opened: OpenFile) -> None:
        self._open[file] = opened
        if len(self._open) > self._most:
            self._open.popitem(last=False)

    def forget(self, file: str) -> None:
        self._open.pop(file, None)


class Lease:
    """Keeps files, and the directory they are in, until it is released."""

    __slots__ = ("_files", "_owner")

    def __init__(self, owner: DataFiles, files: Sequence[str]) -> None:
        self._owner = owner
        self._files: Sequence[str] | None = files

    def release(self) -> None:
        """Let go; a second time is nothing."""
        files, self._files = self._files, None
        if files is not None:
            self._owner.end_lease(files)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class DataFiles:
    """The files under one directory, spread over 256 sub-directories.

    The directory is held open, so that it can be moved under those who work with its files.
    """

    def __init__(self, directory: Path, opened: OpenFiles) -> None:
        self._root = directory
        for first in range(256):
            os.makedirs(directory / f"{first:02x}", exist_ok=True)
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._opened = opened
        self._leases = 0
        self._removed = False
        self._leased: Counter[str] = Counter()
        self._unlinked: set[str] = set()
        """Of the leased ones."""

    def new(self) -> str:
        """Return a name that no file has."""
        return f"{random.getrandbits(96):024x}"

    def path(self, file: str) -> Path:
        return self._root / _within(file)

    def descriptor(self, file: str, flags: int = os.O_RDONLY) -> int:
        """Open a file anew; the caller closes it."""
        return os.open(_within(file), flags | os.O_CLOEXEC, 0o666, dir_fd=self._directory)

    def open(self, file: str) -> OpenFile:
        """Open a file for reading, or share it with those who have it open."""
        found = self._opened.get(file)
        if found is None:
            found = OpenFile(self.descriptor(file))
            self._opened.keep(file, found)
        return found

    def lease(self, files: Iterable[str] = ()) -> Lease:
        """Keep files until the lease is released; none of them: the directory alone."""
        names = tuple(files)
        self._leased.update(names)
        self._leases += 1
        return Lease(self, names)

    def end_lease(self, files: Sequence[str]) -> None:
        """`Lease.release` calls this."""
        for file in files:
            self._leased[file] -= 1
            if not self._leased[file]:
                del self._leased[file]
                if file in self._unlinked:
                    self._unlinked.remove(file)
                    self._unlink(file)
        self._leases -= 1
        self._erase_unused()

    def unlink(self, segments: Sequence[Segment]) -> None:
        """Unlink the segments' files, each as soon as nobody has a lease of it."""
        for file in {segment.file for segment in segments}:
            if file in self._leased:
                self._unlinked.add(file)
            else:
                self._unlink(file)

    def _unlink(self, file: str) -> None:
        self._opened.forget(file)
        os.unlink(_within(file), dir_fd=self._directory)

    def move(self, directory: Path) -> None:
        """Rename the directory."""
        os.rename(self._root, directory)
        self._root = directory

    def remove(self) -> None:
        """Remove the directory and all that is in it, as soon as nobody has a lease."""
        self._removed = True
        self._erase_unused()

    def _erase_unused(self) -> None:
        if self._removed and not self._leases:
            os.close(self._directory)
            shutil.rmtree(self._root)

    def close(self) -> None:
        """Unlink what leases still kept."""
        for file in self._unlinked:
            self._unlink(file)
        self._unlinked.clear()
        os.close(self._directory)

    def take(self, source: DataFiles, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Give the bytes a second owner here, by hard links under new names."""
        names: dict[str, str] = {}
        for segment in segments:
            if segment.file not in names:
                names[segment.file] = self.new()
                os.link(
                    _within(segment.file),
                    _within(names[segment.file]),
                    src_dir_fd=source._directory,
                    dst_dir_fd=self._directory,
                )
        return tuple(segment._replace(file=names[segment.file]) for segment in segments)

    def sweep(self, known: set[str]) -> None:
        """Unlink every file that is not `known`."""
        for first in os.listdir(self._root):
            for name in os.listdir(os.path.join(self._root, first)):
                if name not in known:
                    os.unlink(os.path.join(self._root, first, name))


def _within(file: str) -> str:
    return f"{file[:2]}/{file}"


class Body:
    """Bytes on their way in: written to a new data file and digested as they come.

    `keep` makes the file the caller's; without it the file is gone when the body is closed.
    """

    def __init__(self, files: DataFiles, limit: int, *, md5: bool) -> None:
        self._files = files
        self._lease = files.lease()
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
            self._fd = self._files.descriptor(self._file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
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
            self._files.unlink([Segment(self._file, 0, self.size)])
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
