"""A file that may be written anywhere: a sparse local file stands in for it until it is completed.

`present` are the bytes that lie in the stage, `dirty` those of them that are newer than `base`.
Bytes that are neither come from `base`, pinned to its ETag, when somebody reads them, as far as no
truncation has cut it (`_kept` bytes of it count); beyond that the file is zeros.

To complete, a file of one part is put whole. A larger one is a multipart upload: long ranges that
nobody touched are copied within the bucket, pinned to the ETag; all else is read from the stage in
pieces. A part but the last must not be under the store's minimum, so a short range between two
copies takes from its neighbour, and a short untouched range is uploaded with what surrounds it.

Invariants:
- `dirty` is within `present`; bytes beyond `size` are in neither;
- whatever is made goes on from `base`: a HEAD right before says whether it is still there;
- the object's CRC-64 is compared where the store tells that of the copied ranges.

One lock orders everything that changes the file or fetches into the stage. Reading and writing of
the stage go through the page cache on the loop, a block at a time; only `acknowledge` waits for
the disk, in a thread.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import trio

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer, ObjectInfo, ObjectType, PutReply
from ossfs.store.crc import crc64
from ossfs.store.errors import Corrupt, StoreError
from ossfs.writing.api import Completed, Target, Version
from ossfs.writing.context import Writing
from ossfs.writing.extents import Extents
from ossfs.writing.finishing import check_base, remove_wrong
from ossfs.writing.held import Held
from ossfs.writing.staging import Staging
from ossfs.writing.upload import Upload

log = logging.getLogger(__name__)


class _Run(NamedTuple):
    """A range of the file that is copied, or else uploaded."""

    start: int
    end: int
    copied: bool


class StagedWriter:
    """Implements `api.Writer`."""

    shared = True

    def __init__(
        self,
        writing: Writing,
        staging: Staging,
        target: Target,
        base: Version | None,
        completed: Completed,
    ) -> None:
        """Go on from `base`, or from nothing: then an object is made even of no bytes at all."""
        self._writing = writing
        self._staging = staging
        self._completed = completed
        self.target = target
        self.base = base
        self.size = base.size if base is not None else 0
        self.failure: Exception | None = None
        self.last_write = writing.now()
        self._descriptor, self._path = staging.open()
        self._present = Extents()
        self._dirty_ranges = Extents()
        self._kept = self.size
        self._dirty = base is None
        self._recorded = False
        self._unlinked = False
        self._closed = False
        self._lock = trio.Lock()

    @property
    def dirty(self) -> bool:
        return self._dirty and not self._unlinked

    # -- bytes in -----------------------------------------------------------------------------

    async def write(self, offset: int | None, data: Buffer) -> int:
        async with self._lock:
            self._check()
            start = self.size if offset is None else offset
            end = start + len(data)
            if end > self._staging.largest:
                raise FileSystemError(errno.EFBIG)
            self._staging.admit(len(data))
            self._put(start, data)
            self._dirty_ranges.add(start, end)
            if data:
                self._dirty = True
                self.size = max(self.size, end)
            self.last_write = self._writing.now()
            return len(data)

    def _put(self, start: int, data: Buffer) -> None:
        """Write to the stage; what came of a failure that took some of it is not used."""
        view = memoryview(data)
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._descriptor, view[done:], start + done)
            except OSError as error:
                full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                raise FileSystemError(error.errno if full and error.errno else errno.EIO) from error
        self._present.add(start, start + len(view))

    async def truncate(self, size: int) -> None:
        async with self._lock:
            self._check()
            if size == self.size:
                return
            if size > self._staging.largest:
                raise FileSystemError(errno.EFBIG)
            if size < self.size:
                self._kept = min(self._kept, size)
                self._present.cut(size)
                self._dirty_ranges.cut(size)
                # What lies beyond would be there again after an extension.
                os.ftruncate(self._descriptor, size)
            if not size and self.base is not None:
                self.target.replaces = self.base.etag
                self.base = None
            self.size = size
            self._dirty = True

    # -- bytes out ----------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes:
        self._check()
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if not self._here(offset, end):
            async with self._lock:
                self._check()
                end = min(offset + size, self.size)
                if offset >= end:
                    return b""
                await self._fetch(offset, end)
        return self._from_stage(offset, end)

    def _here(self, start: int, end: int) -> bool:
        """Say whether nothing of a range must be fetched: the rest of it is zeros."""
        return self._present.covers(start, min(end, self._kept))

    async def _fetch(self, start: int, end: int) -> None:
        """Bring what is missing of a range into the stage."""
        for first, last in list(self._present.gaps(start, min(end, self._kept))):
            base = self.base
            if base is None or self._unlinked:
                raise FileSystemError(errno.ESTALE)
            for offset in range(first, last, BLOCK):
                data = bytearray(min(BLOCK, last - offset))
                self._staging.admit(len(data))
                await self._writing.client.get_range_into(
                    self.target.key, offset, [memoryview(data)], if_match=base.etag
                )
                self._put(offset, data)

    def _from_stage(self, start: int, end: int) -> bytes:
        """Read a range that is here; the file may be shorter than it, the rest is zeros."""
        data = os.pread(self._descriptor, end - start, start)
        return data + bytes(end - start - len(data))

    # -- completing ---------------------------------------------------------------------------

    async def complete(self) -> None:
        async with self._lock:
            await self._complete()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._complete()
            yield

    async def _complete(self) -> None:
        self._check()
        if not self.dirty:
            return
        try:
            reply, whole = await self._made()
        except Corrupt as error:
            self._fail(error)
            await remove_wrong(self._writing.client, self.target.key, error)
            raise
        except (StoreError, OSError, FileSystemError) as error:
            self._fail(error)
            raise
        except BaseException:
            self._fail(FileSystemError(errno.EIO))
            raise
        self.base = Version(reply.etag, self.size, whole, ObjectType.NORMAL)
        self._kept = self.size
        self._dirty = False
        self._dirty_ranges.clear()
        self.target.exclusive = False
        self._writing.progress += 1
        self._forget_record()
        self._completed(self.base)

    async def _made(self) -> tuple[PutReply, int | None]:
        """Make the object; return the reply and the CRC-64 of all bytes, where it is known."""
        if self.size <= self._writing.part_size(1):
            return await self._put_whole()
        upload = Upload(self._writing, self.target.key, self.target.options(), self._fail)
        try:
            for run in self._plan():
                if run.copied:
                    assert self.base is not None
                    upload.copy_range(
                        self.target.key, self.base.etag, run.start, run.end - run.start
                    )
                else:
                    await self._send(upload, run.start, run.end)
            await upload.sent()
            if self.base is not None:
                await check_base(self._writing.client, self.target.key, self.base)
            whole = upload.crc64
            return await upload.complete(whole), whole
        except BaseException:
            self._writing.leave(upload.abort)
            raise

    async def _put_whole(self) -> tuple[PutReply, int | None]:
        held, options = Held(self._writing.memory, 0), self.target.options()
        try:
            await self._gather(held, 0, self.size)
            if self.base is not None:
                await check_base(self._writing.client, self.target.key, self.base)
            expect = self._writing.expected(self.size, held.crc64, options)
            async with self._writing.memory.brought(held):
                reply = await self._writing.client.put(
                    self.target.key, held.views(), options, expect=expect
                )
            return reply, held.crc64
        finally:
            held.release()

    async def _gather(self, held: Held, start: int, end: int) -> None:
        """Take a range of the file into memory, a block at a time."""
        memory = self._writing.memory
        await self._fetch(start, end)
        async with memory.gathering:
            for offset in range(start, end, BLOCK):
                data = memoryview(self._from_stage(offset, min(offset + BLOCK, end)))
                while data:
                    taken = held.fill(data)
                    if not taken:
                        block = memory.try_take(held.wanted) or await memory.take(held.wanted)
                        if block is not None:
                            held.add(block)
                            continue
                        taken = len(data) if held.add_spilled(data) else 0
                    data = data[taken:]

    async def _send(self, upload: Upload, start: int, end: int) -> None:
        """Upload a range; a rest under the store's minimum goes with the part before it."""
        minimum = self._writing.capabilities.minimum_part
        while start < end:
            size = end - start
            if size >= upload.part_size + minimum:
                size = upload.part_size
                if upload.full:
                    raise FileSystemError(errno.EFBIG)
            while upload.busy:
                await upload.room()
            held = Held(self._writing.memory, start)
            try:
                await self._gather(held, start, start + size)
            except BaseException:
                held.release()
                raise
            upload.send(held)
            start += size

    def _plan(self) -> Iterator[_Run]:
        """Yield what to do with the file's ranges, in order."""
        capabilities = self._writing.capabilities
        minimum = capabilities.minimum_part
        untouched = [
            (start, end)
            for start, end in self._dirty_ranges.gaps(0, self._kept)
            if end - start >= minimum and self.base is not None
        ]
        # Each costs up to two part numbers; of too many the longest are worth it.
        untouched.sort(key=lambda gap: gap[0] - gap[1])
        at = 0
        for start, end in sorted(untouched[: capabilities.maximum_parts // 4]):
            if at < start:
                if start - at < minimum:  # it takes from what would be copied
                    start = at + minimum
                    if end - start < minimum and end != self.size:
                        continue
                    if start >= end:
                        continue
                yield _Run(at, start, copied=False)
            yield _Run(start, end, copied=True)
            at = end
        if at < self.size:
            yield _Run(at, self.size, copied=False)

    # -- what outlives the process --------------------------------------------------------------

    async def acknowledge(self) -> None:
        async with self._lock:
            self._check()
            if not self.dirty:
                return
            content = self._content()
            await trio.to_thread.run_sync(self._staging.keep, self._path, self._descriptor, content)
            self._recorded = True

    def _content(self) -> Mapping[str, Any]:
        options = self.target.options()
        return {
            "key": self.target.key.hex(),
            "base": self.base.etag if self.base is not None else None,
            "base_size": self.base.size if self.base is not None else 0,
            "base_crc64": self.base.crc64 if self.base is not None else None,
            "size": self.size,
            "kept": self._kept,
            "present": list(self._present),
            "dirty": list(self._dirty_ranges),
            "replaces": self.target.replaces,
            "mtime_ns": self.target.mtime_ns,
            "metadata": dict(self.target.metadata),
            "content_type": options.content_type,
            "storage_class": options.storage_class,
        }

    @classmethod
    def recovered(
        cls, writing: Writing, staging: Staging, stage: str, content: Mapping[str, Any]
    ) -> StagedWriter:
        """Return a writer that goes on from what `acknowledge` recorded."""
        base = None
        if content["base"] is not None:
            base = Version(content["base"], content["base_size"], content["base_crc64"])
        target = Target(
            bytes.fromhex(content["key"]),
            mtime_ns=content["mtime_ns"],
            metadata=content["metadata"],
            content_type=content["content_type"],
            storage_class=content["storage_class"],
            replaces=content["replaces"],
        )
        writer = cls(writing, staging, target, base, lambda _version: None)
        writer._drop_stage()
        writer._descriptor, writer._path = os.open(stage, os.O_RDWR | os.O_CLOEXEC), stage
        writer._closed = False
        writer._recorded = True
        writer._present = Extents(content["present"])
        writer._dirty_ranges = Extents(content["dirty"])
        writer._kept = content["kept"]
        writer.size = content["size"]
        writer._dirty = True
        return writer

    def fits(self, there: ObjectInfo | None) -> bool:
        """Say whether the bucket still holds what the file was when it was written."""
        was = self.base.etag if self.base is not None else self.target.replaces
        return (there.etag if there is not None else "") == was

    async def equals(self, there: ObjectInfo) -> bool:
        """Say whether the object is what completing would make."""
        if there.size != self.size or there.crc64 is None:
            return False
        crc = 0
        for offset in range(0, self.size, BLOCK):
            end = min(offset + BLOCK, self.size)
            if not self._here(offset, end):
                return False
            crc = crc64([self._from_stage(offset, end)], crc)
            await trio.lowlevel.checkpoint()
        return crc == there.crc64

    def finished(self) -> None:
        """Drop a record whose bytes are in the bucket, and its stage."""
        self._forget_record()
        self._drop_stage()

    def _forget_record(self) -> None:
        if self._recorded:
            self._recorded = False
            self._staging.forget(self._path)

    # -- ends ---------------------------------------------------------------------------------

    async def discard(self) -> None:
        async with self._lock:
            if not self._unlinked and self.failure is None and self.base is not None:
                # Nobody can fetch it once it is gone: those who have it open keep all of it.
                try:
                    await self._fetch(0, self._kept)
                except (StoreError, FileSystemError) as error:
                    log.warning("%r is removed while it is open: %s", self.target.key, error)
            self._unlinked = True
            self._forget_record()

    async def close(self) -> None:
        async with self._lock:
            if self.failure is None:
                self.failure = FileSystemError(errno.EBADF)
            self._drop_stage()

    def _drop_stage(self) -> None:
        """Give the disk back; a record that is left keeps its stage for the next mount."""
        if self._closed:
            return
        self._closed = True
        os.close(self._descriptor)
        if not self._recorded:
            with suppress(FileNotFoundError):
                os.unlink(self._path)

    def let_go(self) -> None:
        """Close the stage without removing it or its record."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
