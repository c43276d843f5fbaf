"""Chunks of objects on a local disk: a cache of what was read that outlives the mount.

A chunk is one block of one version of one object. It is a file of its own, named by a digest of
bucket, key, ETag and the block's number, so that nothing has to be remembered for it to be found
again (see reading.chunks). One that is damaged is a miss, and goes.

The index holds the size of every chunk in the order of its last use, for the limit and for what has
to give way; a file's time carries the order to the next mount, which scans the directory while it
serves already. One mount has the directory at a time. A disk without room rests the writing for a
while, one that fails ends the use of the cache: both are one warning, and no reader sees an error.

The index belongs to the trio loop; whatever blocks runs in threads.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import TypeVar

import trio

from ossfs.reading import chunks
from ossfs.runtime.failure import UserError
from ossfs.runtime.lock import lock_directory, unusable
from ossfs.runtime.metrics import Metrics

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")

LOCK = ".ossfs-cache.lock"
FOLDER = "ossfs-chunks"
THREADS = 8
"""Jobs of the disk at once, reading and writing; each is the chunks of one GET."""
REST = 60.0
"""Seconds until a disk without room is asked again."""
INDEX_BYTES = 250
"""What a chunk costs in the index (by tracemalloc: entry, node, name and number)."""
LOOK_BYTES = 64 * 1024 * 1024
"""Bytes written between two looks at how full the disk is."""

_AT_ONCE = 5_000
"""Entries of a scan that are taken in before others may run."""
_TOLD = 10
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class _NotNow(Exception):
    """It could not be tried: not one more thread can be had, or the disk does not tell its room."""


class DiskCache:
    """The chunks of one directory."""

    def __init__(
        self,
        directory: str,
        *,
        size: int,
        floor: int,
        largest: int,
        bucket: str,
        metrics: Metrics,
        charge: Callable[[int], None],
        most: int,
        backlog: int,
        now: Callable[[], float],
        statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    ) -> None:
        """Take the directory; UserError when it cannot be used.

        `size` bytes at most lie there, and `floor` of the disk stay free. Objects of more than
        `largest` bytes are left alone (-1: of none). `bucket` names what the keys belong to;
        `charge(±bytes)` counts the memory of the index, which takes `most` bytes at most.
        `backlog` bytes may wait to be written; what comes beyond is not kept, so that no reader
        waits.
        """
        self._lock = lock_directory("disk_data_cache_dir", directory, LOCK)
        self._folder = os.path.join(directory, FOLDER)
        try:
            chunks.make_folders(self._folder)
        except OSError as error:
            os.close(self._lock)
            raise unusable("disk_data_cache_dir", directory, error) from None
        except UserError:
            os.close(self._lock)
            raise
        self._size = size
        self._floor = floor
        self._largest = largest
        self._most = max(1, most // INDEX_BYTES)
        """Chunks in the index."""
        self._bucket = bucket.encode()
        self._metrics = metrics
        self._charge = charge
        self._backlog = backlog
        self._now = now
        self._statvfs = statvfs
        self._index: OrderedDict[bytes, int] = OrderedDict()
        self.scanned = trio.Event()
        """The index has all that lies there."""
        self._used = 0
        """Bytes on the disk, those included that are being written."""
        self._writing = 0
        """Those of them that are being written."""
        self._waiting = 0
        """Bytes of the backlog."""
        self._unlooked = 0
        """Bytes that may be written before the disk is looked at again."""
        self._looking = trio.Lock()
        self._rests_until = 0.0
        self._told_rest = False
        self._off = False
        self._readers = trio.CapacityLimiter(THREADS)
        self._writers = trio.CapacityLimiter(THREADS)
        self._busy: set[str] = set()
        """Paths that a thread is about to write or to remove."""
        self._life = secrets.token_hex(4)
        self._writes = 0
        self._damaged = 0
        """Readings that found damage; the first few are told."""

    def statistics(self) -> dict[str, int | bool]:
        """Return how much lies there."""
        return {
            "bytes": self._used,
            "size": self._size,
            "chunks": len(self._index),
            "off": self._off,
        }

    def shelf(self, key: bytes, etag: str, size: int) -> Shelf | None:
        """Return the place for an object's chunks, None where it has none."""
        if self._off or not etag or (0 <= self._largest < size):
            return None
        stem = blake2b(digest_size=16)
        for part in (self._bucket, key, etag.encode()):
            stem.update(len(part).to_bytes(4, "little") + part)
        return Shelf(self, stem)

    def close(self) -> None:
        """Let another mount have the directory."""
        os.close(self._lock)

    async def scan(self) -> None:
        """Take note of what former mounts have left; what comes meanwhile is younger than that."""
        try:
            found = await self._in_thread(
                self._writers, chunks.scan, self._folder, self._life, self._most
            )
        except (OSError, _NotNow) as error:
            self._fail(error if isinstance(error, OSError) else OSError(str(error)))
            self.scanned.set()
            return
        for number, (_, name, size) in enumerate(reversed(found)):
            if not number % _AT_ONCE:
                await trio.lowlevel.checkpoint()
            if name not in self._index and not self._off:
                self._insert(name, size)
                self._index.move_to_end(name, last=False)
                self._used += size
        self.scanned.set()
        log.debug("disk cache: %d chunks, %d MiB", len(self._index), self._used >> 20)
        await self._remove(self._surplus(0))

    # What shelves ask for

    def may_have(self, name: bytes) -> bool:
        """Say whether it is worth looking for a chunk."""
        return not self._off and (name in self._index or not self.scanned.is_set())

    def holds(self, name: bytes) -> bool:
        """Say whether a chunk is there, as far as is known."""
        return name in self._index

    async def read(
        self, names: Sequence[bytes], views: Sequence[memoryview], on_filled: Callable[[int], None]
    ) -> list[int]:
        """Fill views with their chunks; return the indexes of those that are not there.

        `on_filled(index)` is called in a thread as each is filled. Never raises for the disk.
        """
        wanted = [
            (index, self._path(name), name, view)
            for index, (name, view) in enumerate(zip(names, views, strict=True))
            if self.may_have(name)
        ]
        filled: set[int] = set()
        if wanted:
            known = {name for _, _, name, _ in wanted if name in self._index}
            try:
                damaged, error = await self._in_thread(
                    self._readers, chunks.read, wanted, filled, on_filled
                )
            except _NotNow:
                known, damaged, error = set(), [], None
            except OSError as unforeseen:
                damaged, error = [], unforeseen
            for index, _, name, view in wanted:
                if index in filled:
                    self._metrics.count("disk_cache_read_bytes", len(view))
                    if name in self._index:
                        self._index.move_to_end(name)
                elif error is None and name in known:
                    self._drop(name)
            if damaged:
                self._metrics.count("disk_cache_damaged", len(damaged))
                self._damaged += 1
                log.log(
                    logging.WARNING if self._damaged <= _TOLD else logging.DEBUG,
                    "disk_data_cache_dir: %s was damaged; its bytes are fetched again",
                    damaged[0],
                )
            if error is not None:
                self._trouble(error)
        missing = [index for index in range(len(views)) if index not in filled]
        self._metrics.count("disk_cache_missed_bytes", sum(len(views[index]) for index in missing))
        return missing

    def has_room(self, size: int) -> bool:
        """Say whether `size` more bytes may wait to be written."""
        if self._off or self._now() < self._rests_until:
            return False
        if self._waiting + size > self._backlog:
            self._metrics.count("disk_cache_unwritten_bytes", size)
            return False
        return True

    async def write(self, names: Sequence[bytes], views: Sequence[memoryview]) -> bool:
        """Keep chunks; say whether they are there now. Never raises for the disk."""
        if self._off or self._now() < self._rests_until:
            return False
        sizes = [chunks.on_disk(len(view)) for view in views]
        total, waiting = sum(sizes), sum(map(len, views))
        paths = [self._path(name) for name in names]
        self._waiting += waiting
        try:
            async with self._looking:
                if self._writing + total > self._size or not self._busy.isdisjoint(paths):
                    self._metrics.count("disk_cache_unwritten_bytes", waiting)
                    return False
                room = await self._look(total)
                victims = self._surplus(total, len(names))
                fits = self._fits(total, room, victims)
                if fits:
                    self._used += total
                    self._writing += total
                    busy = {*paths, *victims}
                    self._busy |= busy
            if not fits:
                await self._remove(victims)
                if self.scanned.is_set():
                    self._rest(OSError(errno.ENOSPC, "less is free than is to be left"))
                return False
            new = []
            for path, name, view in zip(paths, names, views, strict=True):
                self._writes += 1
                new.append((path, f".new{self._life}{self._writes}", name, view))
            try:
                written, error = await self._in_thread(self._writers, chunks.write, victims, new)
            except _NotNow:
                written, error = 0, None
            except OSError as unforeseen:
                written, error = 0, unforeseen
            finally:
                self._busy -= busy
                self._writing -= total
            if self._off:
                return False
            self._used -= total
            for name, size in zip(names[:written], sizes[:written], strict=True):
                self._drop(name)
                self._insert(name, size)
                self._used += size
            self._metrics.count("disk_cache_written_bytes", sum(map(len, views[:written])))
            if error is not None:
                self._trouble(error)
            if written == len(names):
                self._told_rest = False
            return written == len(names)
        except _NotNow:
            return False
        finally:
            self._waiting -= waiting

    def busy(self, names: Iterable[bytes]) -> bool:
        """Say whether one of the chunks is just being written, or removed, for somebody."""
        return not self._busy.isdisjoint(map(self._path, names))

    async def forget(self, names: Iterable[bytes]) -> None:
        """Remove chunks that may be there."""
        gone = []
        for name in names:
            if self.may_have(name):
                self._drop(name)
                gone.append(self._path(name))
        await self._remove(gone)

    # The index

    def _insert(self, name: bytes, size: int) -> None:
        self._index[name] = size
        self._charge(INDEX_BYTES)

    def _drop(self, name: bytes) -> None:
        size = self._index.pop(name, None)
        if size is not None:
            self._used -= size
            self._charge(-INDEX_BYTES)

    async def _look(self, size: int) -> int | None:
        """Return what may still be written to the disk, None where nobody has to look; _NotNow."""
        if size <= self._unlooked:
            return None
        writing = self._writing  # what lands meanwhile may not be in the answer yet
        try:
            disk = await self._in_thread(self._writers, self._statvfs, self._folder)
        except OSError as error:
            self._trouble(error)
            raise _NotNow(str(error)) from error
        return disk.f_bavail * disk.f_frsize - self._floor - writing

    def _fits(self, size: int, room: int | None, victims: list[str]) -> bool:
        """Say whether `size` more bytes may be written once the victims have gone.

        Where the disk is fuller than it may be, more victims are added.
        """
        if room is not None:
            while room < size and self._index:
                room += next(iter(self._index.values()))
                victims.append(self._pop_oldest())
            if room < size:
                return False
            self._unlooked = min(room, size + LOOK_BYTES)
        self._unlooked -= size
        return True

    def _surplus(self, size: int, count: int = 0) -> list[str]:
        """Return the paths of what was used longest ago and must go for more bytes and chunks."""
        victims = []
        while self._index and (
            self._used + size > self._size or len(self._index) + count > self._most
        ):
            victims.append(self._pop_oldest())
        return victims

    def _pop_oldest(self) -> str:
        name = next(iter(self._index))
        self._drop(name)
        self._metrics.count("disk_cache_evicted")
        return self._path(name)

    def _path(self, name: bytes) -> str:
        return chunks.path_of(self._folder, name)

    async def _remove(self, paths: list[str]) -> None:
        if paths:
            self._busy.update(paths)
            try:
                _, error = await self._in_thread(self._writers, chunks.write, paths, [])
            except _NotNow:
                return  # the next mount finds them
            except OSError as unforeseen:
                error = unforeseen
            finally:
                self._busy.difference_update(paths)
            if error is not None:
                self._trouble(error)

    async def _in_thread(
        self, limiter: trio.CapacityLimiter, call: Callable[..., _Result], *arguments: object
    ) -> _Result:
        """Run `call` in a thread; _NotNow, OSError, and that for everything unforeseen too."""
        # Never abandoned: the thread has memory that somebody else would get meanwhile.
        started = False

        def begin() -> _Result:
            nonlocal started
            started = True
            return call(*arguments)

        try:
            return await trio.to_thread.run_sync(begin, limiter=limiter)
        except RuntimeError as error:
            if not started:
                raise _NotNow(str(error)) from error
            unforeseen: Exception = error
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the mount outlives its cache
            unforeseen = error
        log.error("internal error of the disk cache", exc_info=unforeseen)
        raise OSError(errno.EIO, f"internal error: {unforeseen!r}") from unforeseen

    # Trouble

    def _trouble(self, error: OSError) -> None:
        """Rest where the trouble may pass, else do without the cache."""
        if error.errno in _NO_ROOM:
            self._rest(error)
        else:
            self._fail(error)

    def _rest(self, error: OSError) -> None:
        """Leave a disk without room alone for a while; what is there can still be read."""
        if self._off or self._now() < self._rests_until:
            return
        self._rests_until = self._now() + REST
        self._unlooked = 0
        told, self._told_rest = self._told_rest, True
        log.log(
            logging.DEBUG if told else logging.WARNING,
            "disk_data_cache_dir: nothing is kept for now (%s); see disk_data_cache_size and "
            "disk_available_space",
            error.strerror,
        )

    def _fail(self, error: OSError) -> None:
        """Do without the cache from now on."""
        if self._off:
            return
        self._off = True
        self._charge(-INDEX_BYTES * len(self._index))
        self._index.clear()
        self._used = 0
        log.warning(
            "disk_data_cache_dir: the cache is off until the next mount: %s",
            error.strerror or error,
        )


class Shelf:
    """The chunks of one version of one object."""

    __slots__ = ("_disk", "_stem")

    def __init__(self, disk: DiskCache, stem: blake2b) -> None:
        self._disk = disk
        self._stem = stem

    def _name(self, unit: int) -> bytes:
        name = self._stem.copy()
        name.update(unit.to_bytes(8, "little"))
        return name.digest()

    def has(self, unit: int) -> bool:
        """Say whether a unit is worth looking for here."""
        return self._disk.may_have(self._name(unit))

    def holds(self, unit: int) -> bool:
        """Say whether a unit is here, as far as is known."""
        return self._disk.holds(self._name(unit))

    async def read(
        self, first: int, views: Sequence[memoryview], on_filled: Callable[[int], None]
    ) -> list[int]:
        """Fill views with the units from `first` on; return the indexes of what is not here."""
        names = [self._name(first + index) for index in range(len(views))]
        return await self._disk.read(names, views, on_filled)

    def has_room(self, size: int) -> bool:
        """Say whether `size` bytes can be kept without anybody's waiting for the disk."""
        return self._disk.has_room(size)

    async def write(self, first: int, views: Sequence[memoryview]) -> bool:
        """Keep the units from `first` on; say whether they are here now."""
        names = [self._name(first + index) for index in range(len(views))]
        return await self._disk.write(names, views)

    def busy(self, first: int, count: int) -> bool:
        """Say whether one of the units is just being written, or removed, for somebody."""
        return self._disk.busy(self._name(unit) for unit in range(first, first + count))

    async def forget(self, units: Iterable[int]) -> None:
        """Remove what is here of some units."""
        await self._disk.forget(map(self._name, units))
