"""The directory for random writes: who may use it, how full it may get, what outlives a crash.

One daemon uses a directory at a time: it holds a lock on a file in it for as long as it lives. A
stage is a file `stage-ossfs-N`; a record `stage-ossfs-N.json` beside it says that what is in the
stage has been acknowledged to a program but is not in the bucket yet. A stage has its name from
the beginning, because not every file system can give a nameless file one later. Stages without a
record are of no use to anybody after a crash and are removed at the next start; those with one are
what recovery works on (see writing.recovery). Nothing else in the directory is touched, and what
another user has put there is neither believed nor written to: the directory may be /var/tmp.

A record is written to another name, made durable, and renamed, so there is a whole one or none.
On the trio loop, but for `keep` and `forget`, which wait for the disk and whose caller runs them in
a thread, one at a time for a stage.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

from ossfs.runtime.failure import FileSystemError
from ossfs.runtime.lock import lock_directory

log = logging.getLogger(__name__)

LOCK = ".ossfs-stage.lock"
CONFLICTS = "conflicts"
PREFIX = "stage-ossfs-"
LOOK_BYTES = 16 * 1024**2
"""Bytes taken between two looks at how full the disk is."""
_OURS = re.compile(re.escape(PREFIX) + r"([0-9]+)(|\.json|\.new)")
_NAME_BYTES = 150
"""Of a key that a conflict file's name shows: a name has 255 bytes, also with what follows."""
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})


class Holder(Protocol):
    """Someone whose stage may be a mere cache of what is in the bucket."""

    last_write: float

    def drop_clean(self) -> bool:
        """Give the disk back if nothing in the stage is needed; say whether that was so."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """What is needed to finish an acknowledged file."""

    stage: str
    """Path of the stage."""
    content: Mapping[str, Any]


class Staging:
    """The directory of one mount."""

    def __init__(
        self,
        directory: str,
        *,
        largest: int,
        free_bytes: int,
        free_percent: int,
        bucket: str = "",
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        """Take the directory; UserError when it cannot be used.

        `largest` is the size in bytes a file may have; `free_bytes` and `free_percent` of the disk
        are left free, whichever is more. `bucket` tells whose files these are: records of another
        one wait until that is mounted again.
        """
        self.directory = directory
        self.largest = largest
        self.bucket = bucket
        self.holders: set[Holder] = set()
        self._free_bytes = free_bytes
        self._free_percent = free_percent
        self._statvfs = statvfs
        self._allowed = 0
        """Bytes that may be taken before the disk is looked at again."""
        self._number = 0
        self._lock = self._locked()
        self._clear()

    def _locked(self) -> int:
        lock = lock_directory("temp_dir", self.directory, LOCK)
        kind = _file_system(self.directory)
        if kind in _MEMORY_FILE_SYSTEMS:
            log.warning(
                "temp_dir %s lies in memory (%s): staged files take it from everybody, and a crash "
                "of the machine loses what was acknowledged",
                self.directory,
                kind,
            )
        return lock

    def _clear(self) -> None:
        """Remove what a former daemon left without having promised it to anybody."""
        found = dict(self._found())
        recorded = {number for number, suffix in found.values() if suffix == ".json"}
        for path, (number, suffix) in found.items():
            self._number = max(self._number, number)
            if (suffix == ".new" or (not suffix and number not in recorded)) and _is_own(path):
                path.unlink()

    def _found(self) -> Iterator[tuple[Path, tuple[int, str]]]:
        """Yield our files with their numbers and suffixes."""
        for path in Path(self.directory).iterdir():
            match = _OURS.fullmatch(path.name)
            if match is not None:
                yield path, (int(match[1]), match[2])

    def close(self) -> None:
        """Let another daemon have the directory."""
        os.close(self._lock)

    def open(self) -> tuple[int, str]:
        """Make an empty stage; return its descriptor and path."""
        self._number += 1
        path = os.path.join(self.directory, f"{PREFIX}{self._number}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, 0o600), path

    def admit(self, size: int) -> None:
        """FileSystemError(ENOSPC) unless the disk has room for `size` more bytes.

        Before that, stages that hold only what is in the bucket give way, those idle longest first.
        """
        if size > self._allowed:
            room = self._room()
            for holder in sorted(self.holders, key=lambda holder: holder.last_write):
                if size <= room:
                    break
                if holder.drop_clean():
                    room = self._room()
            if size > room:
                raise FileSystemError(errno.ENOSPC)
            self._allowed = min(room, size + LOOK_BYTES)
        self._allowed -= size

    def _room(self) -> int:
        disk = self._statvfs(self.directory)
        floor = max(self._free_bytes, disk.f_blocks * disk.f_frsize * self._free_percent // 100)
        return disk.f_bavail * disk.f_frsize - floor

    # What outlives a crash

    def keep(self, stage: str, content: Mapping[str, Any]) -> None:
        """Make the record of a stage durable, instead of one there may be. Blocks for the disk."""
        text = json.dumps({**content, "bucket": self.bucket}, sort_keys=True)
        new = f"{stage}.new"
        with suppress(FileNotFoundError):
            os.unlink(new)
        with open(new, "w", opener=_private) as file:
            json.dump({"crc32": crc32(text.encode()), "record": text}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, f"{stage}.json")
        self._sync_directory()

    def forget(self, stage: str) -> None:
        """Drop a stage's record, if it has one, for good. Blocks for the disk."""
        try:
            os.unlink(f"{stage}.json")
        except FileNotFoundError:
            return
        self._sync_directory()

    def is_recorded(self, stage: str) -> bool:
        """Say whether a stage has a record, so that it must not be removed."""
        return os.path.exists(f"{stage}.json")

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def records(self) -> Iterator[Record]:
        """Yield what a former daemon acknowledged and did not finish; damaged ones go aside.

        The latest come first: of two files that were one key's, that is the one to go on from.
        """
        numbered = sorted(
            (number, path) for path, (number, suffix) in self._found() if suffix == ".json"
        )
        for _, path in reversed(numbered):
            stage = str(path.with_suffix(""))
            if not _is_own(path) or (os.path.lexists(stage) and not _is_own(Path(stage))):
                log.error("%s is left alone: it is not this user's own file", stage)
                continue
            try:
                outer = json.loads(path.read_text())
                text = outer["record"]
                if crc32(text.encode()) != outer["crc32"]:
                    raise ValueError("its checksum is wrong")
                content = json.loads(text)
                if not os.path.exists(stage):
                    raise ValueError("its stage is missing")
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.aside_damaged(stage, error)
                continue
            yield Record(stage, content)

    def aside_damaged(self, stage: str, error: Exception) -> None:
        """Keep what nothing can be made of; never fails for it."""
        try:
            kept = self.aside(stage, b"damaged")
        except OSError as other:
            log.error("the record %s.json is of no use (%r), and stays: %s", stage, error, other)
            return
        log.error("the record %s.json is of no use (%r): kept as %s", stage, error, kept)

    def aside(self, stage: str, key: bytes, *, plain: bool = False) -> str:
        """Keep a stage where nothing touches it again; return the new path.

        It is named after the key and the time of its last change. Its record goes with it, unless
        it is a `plain` file, which needs none.
        """
        conflicts = Path(self.directory, CONFLICTS)
        conflicts.mkdir(mode=0o700, exist_ok=True)
        name = key.replace(b"/", b"_")[-_NAME_BYTES:].decode("utf-8", "ignore")
        changed = os.stat(stage if os.path.exists(stage) else f"{stage}.json").st_mtime
        name += time.strftime(".%Y%m%dT%H%M%SZ", time.gmtime(changed))
        number = 1
        while any((conflicts / f"{name}.{number}{suffix}").exists() for suffix in ("", ".json")):
            number += 1
        target = str(conflicts / f"{name}.{number}")
        if os.path.exists(stage):
            os.rename(stage, target)
        if plain:
            self.forget(stage)
        elif self.is_recorded(stage):
            os.rename(f"{stage}.json", f"{target}.json")
        return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _is_own(path: Path) -> bool:
    """Say whether a regular file is ours alone, under this name alone."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and state.st_nlink == 1


def _file_system(directory: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system a directory lies in, empty where that is not told."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        # Bytes: somebody's mount point may have what no text has.
        lines = Path(mountinfo).read_bytes().split(b"\n")
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        if fields.split(b" ")[2:3] == [wanted.encode()]:
            return rest.split(b" ")[0].decode()
    return ""
