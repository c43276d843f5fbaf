"""The directory for random writes: who may use it, how full it may get, what outlives a crash.

One daemon uses a directory at a time: it holds a lock on a file in it for as long as it lives. A
stage is a file `stage-N`; a record `stage-N.json` beside it says that what is in the stage has been
acknowledged to a program but is not in the bucket yet. Stages without a record are of no use to
anybody after a crash and are removed at the next start; those with one are what recovery works on
(see writing.recovery).

A record is written to another name, made durable, and renamed, so there is a whole one or none.
Blocking calls are short, but for `sync`, which its caller runs in a thread.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from ossfs.runtime.failure import ExitStatus, FileSystemError, UserError

log = logging.getLogger(__name__)

LOCK = ".ossfs-stage.lock"
CONFLICTS = "conflicts"
LOOK_BYTES = 16 * 1024**2
"""Bytes taken between two looks at how full the disk is."""
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})


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
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        """Take the directory; UserError when it cannot be used.

        `largest` is the size in bytes a file may have; `free_bytes` and `free_percent` of the disk
        are left free, whichever is more.
        """
        self.directory = directory
        self.largest = largest
        self._free_bytes = free_bytes
        self._free_percent = free_percent
        self._statvfs = statvfs
        self._allowed = 0
        """Bytes that may be taken before the disk is looked at again."""
        self._number = 0
        self._lock = self._locked()
        self._clear()

    def _locked(self) -> int:
        try:
            lock = os.open(
                os.path.join(self.directory, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise UserError(
                f"temp_dir: {self.directory} cannot be used ({error.strerror}); give an existing "
                "directory that the mounting user can write to",
                ExitStatus.USAGE,
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise UserError(
                f"temp_dir: {self.directory} is in use by another mount; give each its own",
                ExitStatus.USAGE,
            ) from None
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
        for path in Path(self.directory).glob("stage-*"):
            number = path.name.split(".")[0].removeprefix("stage-")
            if number.isdigit():
                self._number = max(self._number, int(number))
            if path.suffix == ".new" or (
                not path.suffix and not path.with_name(path.name + ".json").exists()
            ):
                path.unlink()

    def close(self) -> None:
        """Let another daemon have the directory."""
        os.close(self._lock)

    def open(self) -> tuple[int, str]:
        """Make an empty stage; return its descriptor and path."""
        self._number += 1
        path = os.path.join(self.directory, f"stage-{self._number}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, 0o600), path

    def admit(self, size: int) -> None:
        """FileSystemError(ENOSPC) unless the disk has room for `size` more bytes."""
        if size > self._allowed:
            disk = self._statvfs(self.directory)
            floor = max(self._free_bytes, disk.f_blocks * disk.f_frsize * self._free_percent // 100)
            room = disk.f_bavail * disk.f_frsize - floor
            if size > room:
                raise FileSystemError(errno.ENOSPC)
            self._allowed = min(room, size + LOOK_BYTES)
        self._allowed -= size

    # What outlives a crash

    def keep(self, stage: str, descriptor: int, content: Mapping[str, Any]) -> None:
        """Make a stage and its record durable. Blocks for the disk."""
        os.fsync(descriptor)
        text = json.dumps(content, sort_keys=True)
        new = f"{stage}.new"
        with open(new, "w", opener=_private) as file:
            json.dump({"crc32": crc32(text.encode()), "record": text}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, f"{stage}.json")
        self._sync_directory()

    def forget(self, stage: str) -> None:
        """Drop a stage's record, if it has one: nobody needs its bytes any more."""
        try:
            os.unlink(f"{stage}.json")
        except FileNotFoundError:
            return
        self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def records(self) -> Iterator[Record]:
        """Yield what a former daemon acknowledged and did not finish; damaged ones go aside."""
        for path in sorted(Path(self.directory).glob("stage-*.json")):
            stage = str(path.with_suffix(""))
            try:
                outer = json.loads(path.read_text())
                text = outer["record"]
                if crc32(text.encode()) != outer["crc32"]:
                    raise ValueError("its checksum is wrong")
                content = json.loads(text)
                if not os.path.exists(stage):
                    raise ValueError("its stage is missing")
            except (OSError, ValueError, KeyError, TypeError) as error:
                aside = self.aside(stage, b"damaged")
                log.error("the record %s is of no use (%s): kept as %s", path, error, aside)
                continue
            yield Record(stage, content)

    def aside(self, stage: str, key: bytes) -> str:
        """Keep a stage and its record where nothing touches them again; return the new path."""
        conflicts = Path(self.directory, CONFLICTS)
        conflicts.mkdir(mode=0o700, exist_ok=True)
        base = key.decode("utf-8", "backslashreplace").replace("/", "_")[-150:]
        number = 1
        while (conflicts / f"{base}.{number}").exists() or (
            conflicts / f"{base}.{number}.json"
        ).exists():
            number += 1
        target = str(conflicts / f"{base}.{number}")
        for suffix in ("", ".json"):
            if os.path.exists(stage + suffix):
                os.rename(stage + suffix, target + suffix)
        return target


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _file_system(directory: str) -> str:
    """Return the type of the file system a directory lies in, empty where that is not told."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            return rest.split()[0]
    return ""
