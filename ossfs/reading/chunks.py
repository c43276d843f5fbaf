"""Chunks of objects as files: what one looks like, and reading, writing and finding them.

Behind a chunk's bytes stands a trailer with their number, the chunk's name and a CRC-64 of all of
that: what does not agree is damaged. A chunk is written to another name and renamed, so that there
is a whole one or none; what was never finished goes at the next scan. Everything here blocks and
runs in threads of the disk cache; it knows paths only.
"""

from __future__ import annotations

import errno
import heapq
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from fastcrc.crc64 import xz

from ossfs.runtime.failure import ExitStatus, UserError

_PAGE = 4096
"""What a file's space on the disk is rounded up to."""
_TRAILER = struct.Struct("<8sQ16sQ")
"""Magic, bytes of data, name, CRC-64/XZ of the data and of the trailer up to here."""
_MAGIC = b"ossfs-c1"
_SUMMED = _TRAILER.size - 8
_CHUNK = re.compile(r"[0-9a-f]{30}")
_UNFINISHED = re.compile(r"[0-9a-f]{30}\.new([0-9a-f]+)")


def path_of(folder: str, name: bytes) -> str:
    """Return where a chunk is."""
    text = name.hex()
    return f"{folder}/{text[:2]}/{text[2:]}"


def make_folders(folder: str) -> None:
    """Make what chunks lie in; UserError where others could read them or put theirs there."""
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    about = os.lstat(folder)
    private = about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077
    if not stat.S_ISDIR(about.st_mode) or not private:
        raise UserError(
            f"disk_data_cache_dir: {folder} is not a directory of the mounting user alone; remove "
            "it, or choose another directory",
            ExitStatus.USAGE,
        )
    for shard in range(256):
        os.makedirs(f"{folder}/{shard:02x}", mode=0o700, exist_ok=True)


def on_disk(size: int) -> int:
    """Return what a chunk of `size` bytes takes of the disk."""
    return -(-(size + _TRAILER.size) // _PAGE) * _PAGE


def _sum_of(data: memoryview, head: bytes) -> int:
    return int(xz(head, xz(data)))


def read(
    wanted: Sequence[tuple[int, str, bytes, memoryview]],
    filled: set[int],
    on_filled: Callable[[int], None],
) -> tuple[list[str], OSError | None]:
    """Read chunks into their views; return the paths of damaged ones, and why it broke off."""
    damaged = []
    for index, path, name, view in wanted:
        try:
            whole = _read_chunk(path, name, view)
            if whole:
                filled.add(index)
                on_filled(index)
            else:
                damaged.append(path)
                os.unlink(path)
        except FileNotFoundError:
            continue  # a miss like any other
        except OSError as error:
            return damaged, error
    return damaged, None


def _read_chunk(path: str, name: bytes, view: memoryview) -> bool:
    """Read a chunk; False where it is not what was written."""
    trailer = bytearray(_TRAILER.size)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.preadv(file, [view, trailer], 0)
        if size != len(view) + _TRAILER.size:
            return False
        magic, length, written, checksum = _TRAILER.unpack(trailer)
        if (magic, length, written) != (_MAGIC, len(view), name):
            return False
        if _sum_of(view, bytes(trailer[:_SUMMED])) != checksum:
            return False
        with suppress(OSError):  # it can be read, which is what counts
            os.utime(file)
        return True
    finally:
        os.close(file)


def write(
    victims: Iterable[str], chunks: Iterable[tuple[str, str, bytes, memoryview]]
) -> tuple[int, OSError | None]:
    """Remove some chunks and write others; return how many, and why it broke off."""
    written = 0
    try:
        for path in victims:
            with suppress(FileNotFoundError):
                os.unlink(path)
        for path, suffix, name, view in chunks:
            try:
                _write_chunk(path, path + suffix, name, view)
            except FileNotFoundError:  # somebody has cleared the folder; if it is gone, we are off
                with suppress(FileExistsError):
                    os.mkdir(os.path.dirname(path), 0o700)
                _write_chunk(path, path + suffix, name, view)
            written += 1
    except OSError as error:
        return written, error
    return written, None


def _write_chunk(path: str, new: str, name: bytes, view: memoryview) -> None:
    head = _TRAILER.pack(_MAGIC, len(view), name, 0)[:_SUMMED]
    trailer = head + _sum_of(view, head).to_bytes(8, "little")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(new, flags, 0o600)
        try:
            if os.writev(file, [view, trailer]) != len(view) + len(trailer):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
        os.rename(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def scan(folder: str, life: str, most: int) -> list[tuple[int, bytes, int]]:
    """Return (time of last use, name, bytes on disk) of the chunks, the oldest first.

    Of more than `most` the oldest are removed, and so is what was never finished.
    """
    found: list[tuple[int, bytes, int]] = []
    for shard in range(256):
        with os.scandir(f"{folder}/{shard:02x}") as entries:
            for entry in entries:
                if _CHUNK.fullmatch(entry.name):
                    with suppress(FileNotFoundError):
                        about = entry.stat(follow_symlinks=False)
                        name = bytes.fromhex(f"{shard:02x}{entry.name}")
                        size = -(-about.st_size // _PAGE) * _PAGE
                        heapq.heappush(found, (about.st_mtime_ns, name, size))
                        if len(found) > most:
                            os.unlink(path_of(folder, heapq.heappop(found)[1]))
                elif (new := _UNFINISHED.fullmatch(entry.name)) and not new[1].startswith(life):
                    with suppress(FileNotFoundError):
                        os.unlink(entry.path)
    found.sort()
    return found
