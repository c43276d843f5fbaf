"""A file that may be written anywhere: a sparse local file stands in for it until it is completed.

What lies in the stage is its `present`; `_dirty_ranges` are those of them that are newer than
`base`. Bytes that are neither come from `base`, pinned to its ETag, when somebody reads them, as
far as no truncation has cut it (`_kept` bytes of it count); beyond that the file is zeros. What was
fetched stays in the stage while the disk has room, and is only passed on where it has none.

To complete, a file of one part is put whole; a larger one is a multipart upload, parts of which may
be copies within the bucket (see writing.stage). After that the stage is a cache of what is in the
bucket: it gives way when the disk is wanted.

Invariants:
- dirty bytes are present; bytes beyond `size` are neither;
- whatever is made goes on from `base`: a HEAD right before says whether it is still there;
- the object's CRC-64 is compared where the store tells that of the copied ranges;
- a record (what `acknowledge` leaves for the next mount) tells of a state whose bytes are durable
  in the stage, and a cut takes none of them away before the record knows of it.

One lock orders everything that changes the file or fetches into the stage.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer, ObjectInfo, ObjectType
from ossfs.store.crc import crc64
from ossfs.store.errors import Corrupt, StoreError
from ossfs.writing.api import Completed, Target, Version
from ossfs.writing.context import Writing
from ossfs.writing.extents import RANGE_BYTES, Extents
from ossfs.writing.finishing import check_base, remove_wrong
from ossfs.writing.held import Held
from ossfs.writing.stage import Stage, lay_out, next_piece
from ossfs.writing.staging import Staging
from ossfs.writing.upload import Upload

log = logging.getLogger(__name__)


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
        *,
        stage: Stage | None = None,
    ) -> None:
        """Go on from `base`, or from nothing: then an object is made even of no bytes at all.

        `stage` is that of a former life; without it there is a new one.
        """
        self._writing = writing
        self._staging = staging
        self._completed = completed
        self.target = target
        self.base = base
        self.size = base.size if base is not None else 0
        self.failure: Exception | None = None
        self.last_write = writing.now()
        self._stage = stage or Stage(*staging.open(), staging.admit)
        self._dirty_ranges = Extents()
        self._charged = 0
        """Bytes of the budget for ranges, of which scattered writes make millions."""
        self._kept = self.size
        self._largest = writing.largest
        self._dirty = base is None
        self._recorded: Mapping[str, Any] | None = None
        """The record that the next mount would find."""
        self._of_former_life = stage is not None
        self._unlinked = False
        self._lock = trio.Lock()
        staging.holders.add(self)

    @property
    def dirty(self) -> bool:
        return self._dirty and not self._unlinked

    # -- bytes in -----------------------------------------------------------------------------

    async def write(self, offset: int | None, data: Buffer) -> int:
        try:
            self._lock.acquire_nowait()  # without a checkpoint: tiny writes come by the million
        except trio.WouldBlock:
            await self._in_line()
        try:
            self._check()
            start = self.size if offset is None else offset
            end = start + len(data)
            self._check_size(start, end)
            self.last_write = self._writing.now()
            try:
                self._stage.put(start, data)
            except OSError as error:
                self._fail(error)
                raise
            if data:
                self._dirty_ranges.add(start, end)
                self._dirty = True
                self.size = max(self.size, end)
                self._charge()
            return len(data)
        finally:
            self._lock.release()

    def _charge(self) -> None:
        """Have the budget know of all ranges there are by now."""
        size = (len(self._dirty_ranges) + len(self._stage.present)) * RANGE_BYTES
        if size != self._charged:
            self._writing.memory.charge(size - self._charged)
            self._charged = size

    async def _in_line(self) -> None:
        memory = self._writing.memory
        memory.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            memory.waiting -= 1

    def _check_size(self, start: int, end: int) -> None:
        """Raise EFBIG unless the user and the store allow a file that is changed up to `end`."""
        if end > self._staging.largest:
            raise FileSystemError(errno.EFBIG)
        size = max(self.size, end)
        if size > self._largest:  # it is possible only with copies of `base`
            dirty = Extents(self._dirty_ranges)
            dirty.add(start, end)
            lay_out(self._writing, dirty, self._kept, size)

    async def truncate(self, size: int) -> None:
        async with self._lock:
            self._check()
            if size == self.size:
                return
            if size > self.size:
                self._check_size(size, size)
                self.size, self._dirty = size, True
                return
            self._dirty = True
            self._kept = min(self._kept, size)
            self._dirty_ranges.cut(size)
            self._stage.present.cut(size)
            if not size and self.base is not None:
                self.target.replaces = self.base.etag
                self.base = None
            self.size = size
            try:
                if self._recorded is not None:
                    await self._record()
                self._stage.cut(size)
            except BaseException as error:
                self._fail(error if isinstance(error, OSError) else FileSystemError(errno.EIO))
                raise
            finally:
                self._charge()

    # -- bytes out ----------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes:
        self._check()
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if self._here(offset, end):
            return self._stage.read(offset, end)
        async with self._lock:
            self._check()
            end = min(offset + size, self.size)
            return bytes(await self._bytes(offset, end)) if offset < end else b""

    def _here(self, start: int, end: int) -> bool:
        """Say whether nothing of a range must be fetched: the rest of it is zeros."""
        return self._stage.present.covers(start, min(end, self._kept))

    async def _bytes(self, start: int, end: int) -> Buffer:
        """Return a range of up to a block; what is fetched stays here if the disk has room."""
        here = self._stage.read(start, end)
        missing = list(self._stage.missing(start, min(end, self._kept)))
        if not missing:
            return here
        base = self.base
        if base is None or self._unlinked:
            raise FileSystemError(errno.ESTALE)
        data = bytearray(here)
        for first, last in missing:
            piece = memoryview(data)[first - start : last - start]
            await self._writing.client.get_range_into(
                self.target.key, first, [piece], if_match=base.etag
            )
            with suppress(FileSystemError):  # the next reader fetches it again
                self._stage.put(first, piece)
        self._charge()
        return data

    async def _fetch(self, start: int, end: int) -> bool:
        """Bring what is missing of a range into the stage; False where the disk has no room."""
        for first, last in list(self._stage.missing(start, min(end, self._kept))):
            for offset in range(first, last, BLOCK):
                stop = min(offset + BLOCK, last)
                await self._bytes(offset, stop)
                if not self._here(offset, stop):
                    return False
        return True

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
            base = await self._made()
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
        self.base = base
        self._kept = self.size
        self._dirty = False
        self._dirty_ranges.clear()
        self._charge()
        self.target.exclusive = False
        self._writing.progress += 1
        self._completed(base)
        await self._forget_record()

    async def _made(self) -> Version:
        """Make the object."""
        if self.size <= self._writing.part_size(1):
            return await self._put_whole()
        upload = Upload(self._writing, self.target.key, self.target.options(), self._fail)
        try:
            for run in lay_out(self._writing, self._dirty_ranges, self._kept, self.size):
                if run.copied:
                    assert self.base is not None
                    upload.copy_range(
                        self.target.key, self.base.etag, run.start, run.end - run.start
                    )
                else:
                    await self._send(upload, run.start, run.end)
            await upload.sent()
            whole = upload.crc64
            await self._before_it_is_made(whole)
            reply = await upload.complete(whole)
            return Version(reply.etag, self.size, whole, ObjectType.MULTIPART)
        except BaseException:
            self._writing.leave(upload.abort)
            raise

    async def _put_whole(self) -> Version:
        held, options = Held(self._writing.memory, 0), self.target.options()
        try:
            await self._gather(held, 0, self.size)
            await self._before_it_is_made(held.crc64)
            expect = self._writing.expected(self.size, held.crc64, options)
            async with self._writing.memory.brought(held):
                reply = await self._writing.client.put(
                    self.target.key, held.views(), options, expect=expect
                )
            return Version(reply.etag, self.size, held.crc64, ObjectType.NORMAL)
        finally:
            held.release()

    async def _before_it_is_made(self, whole: int | None) -> None:
        """See that nobody else's change is replaced; let a next life know what is made."""
        if self._recorded is not None and whole is not None:
            note = {**self._recorded, "made": [self.size, whole]}
            with suppress(OSError):  # that life may then find a conflict where there is none
                await trio.to_thread.run_sync(self._staging.keep, self._stage.path, note)
        started_from = self.base
        if started_from is None and self._of_former_life and self.target.replaces:
            started_from = Version(self.target.replaces, 0, None)
        if started_from is not None:
            await check_base(self._writing.client, self.target.key, started_from)

    async def _gather(self, held: Held, start: int, end: int) -> None:
        """Take a range of the file into memory, a block at a time."""
        memory = self._writing.memory
        await self._fetch(start, end)
        async with memory.gathering:
            for offset in range(start, end, BLOCK):
                data = memoryview(await self._bytes(offset, min(offset + BLOCK, end)))
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
        """Upload a range, in the parts that lay_out has counted."""
        while start < end:
            minimum = self._writing.capabilities.minimum_part
            size = next_piece(end - start, upload.part_size, minimum)
            while upload.busy:
                await upload.room()
            self._check()  # a part that failed has failed the writer
            held = Held(self._writing.memory, start)
            try:
                await self._gather(held, start, start + size)
            except BaseException:
                held.release()
                raise
            upload.send(held)
            start += size

    # -- what outlives the process --------------------------------------------------------------

    async def acknowledge(self) -> None:
        async with self._lock:
            self._check()
            if self.dirty:
                await self._record()

    async def _record(self) -> None:
        """Make the file as it is survive; where the local disk cannot, complete it instead."""
        try:
            await self._stage.sync()
        except OSError as error:
            self._fail(error)
            raise
        content = self._content()
        try:
            await trio.to_thread.run_sync(self._staging.keep, self._stage.path, content)
        except OSError as error:
            log.warning("%r is uploaded at once: no record of it: %s", self.target.key, error)
            self._recorded = self._recorded or content  # it may be there all the same
            await self._complete()
        else:
            self._recorded = content

    def _content(self) -> Mapping[str, Any]:
        options = self.target.options()
        return {
            "key": self.target.key.hex(),
            "base": self.base.etag if self.base is not None else None,
            "base_size": self.base.size if self.base is not None else 0,
            "base_crc64": self.base.crc64 if self.base is not None else None,
            "size": self.size,
            "kept": self._kept,
            "present": list(self._stage.present),
            "dirty": list(self._dirty_ranges),
            "replaces": self.target.replaces,
            "mtime_ns": self.target.mtime_ns,
            "metadata": dict(self.target.metadata),
            "mark": self.target.mark if self.target.exclusive else "",
            "content_type": options.content_type,
            "storage_class": options.storage_class,
        }

    @classmethod
    def recovered(
        cls, writing: Writing, staging: Staging, stage: str, content: Mapping[str, Any]
    ) -> StagedWriter:
        """Return a writer of what `acknowledge` recorded; it replaces only what that went on from.

        KeyError, TypeError or ValueError for a record that makes no sense.
        """
        base = None
        if content["base"] is not None:
            base = Version(content["base"], content["base_size"], content["base_crc64"])
        target = Target(
            bytes.fromhex(content["key"]),
            exclusive=base is None and not content["replaces"],
            mtime_ns=content["mtime_ns"],
            metadata=content["metadata"],
            mark=content["mark"],
            content_type=content["content_type"],
            storage_class=content["storage_class"],
            replaces=content["replaces"],
        )
        present, dirty = Extents(content["present"]), Extents(content["dirty"])
        size, kept = int(content["size"]), int(content["kept"])
        descriptor = os.open(stage, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        there = Stage(descriptor, stage, staging.admit, present)
        writer = cls(writing, staging, target, base, lambda _version: None, stage=there)
        writer._dirty_ranges = dirty
        writer._kept, writer.size = kept, size
        writer._dirty = True
        writer._recorded = content
        writer._charge()
        return writer

    def fits(self, there: ObjectInfo | None) -> bool:
        """Say whether the bucket still holds what the file was when it was written."""
        was = self.base.etag if self.base is not None else self.target.replaces
        return (there.etag if there is not None else "") == was

    async def equals(self, there: ObjectInfo) -> bool:
        """Say whether the object is what completing made, or would make."""
        if there.crc64 is None:
            return False
        if self._recorded is not None and self._recorded.get("made") == [there.size, there.crc64]:
            return True
        if there.size != self.size or not self.whole:
            return False
        crc = 0
        for offset in range(0, self.size, BLOCK):
            crc = crc64([self._stage.read(offset, min(offset + BLOCK, self.size))], crc)
            await trio.lowlevel.checkpoint()
        return crc == there.crc64

    @property
    def whole(self) -> bool:
        """Whether all bytes are here, none only in the bucket."""
        return self._here(0, self.size)

    def make_plain(self) -> None:
        """Make a whole stage a file that needs no record to be read."""
        self._stage.extend(self.size)

    async def finished(self) -> None:
        """Drop a record whose bytes are in the bucket, and its stage."""
        await self._forget_record()
        self._drop_stage()

    async def _forget_record(self) -> None:
        if self._recorded is None:
            return
        self._recorded = None
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._staging.forget, self._stage.path)
        except OSError as error:
            log.warning("the record of %r may stay though it is done: %s", self.target.key, error)

    # -- ends ---------------------------------------------------------------------------------

    async def discard(self) -> None:
        async with self._lock:
            if not self._unlinked and self.failure is None and self.base is not None:
                # Nobody can fetch it once it is gone: those who have it open keep all of it.
                reason: Exception = FileSystemError(errno.ENOSPC)
                try:
                    kept = await self._fetch(0, self._kept)
                except (StoreError, FileSystemError, OSError) as error:
                    kept, reason = False, error
                if not kept:
                    log.warning("%r is removed while it is open: %s", self.target.key, reason)
            self._unlinked = True
            await self._forget_record()

    async def close(self) -> None:
        async with self._lock:
            if self.failure is None:
                self.failure = FileSystemError(errno.EBADF)
            self._drop_stage()

    def drop_clean(self) -> bool:
        needed = self._recorded is not None or self._unlinked or self._lock.locked()
        if needed or (self._dirty and self.failure is None) or not self._stage.present:
            return False
        try:
            self._stage.cut(0)
        except OSError as error:
            log.warning("%s keeps its room: %s", self._stage.path, error)
            return False
        self._charge()
        return True

    def _drop_stage(self) -> None:
        """Give the disk back; a record that is left keeps its stage for the next mount."""
        self._forget_ranges()
        try:
            if self._stage.close() and not self._staging.is_recorded(self._stage.path):
                with suppress(FileNotFoundError):
                    os.unlink(self._stage.path)
        except OSError as error:  # nothing is lost with it: the next mount clears it away
            log.warning("%s stays: %s", self._stage.path, error.strerror)

    def let_go(self) -> None:
        """Close the stage without removing it or its record."""
        self._forget_ranges()
        self._stage.close()

    def _forget_ranges(self) -> None:
        self._staging.holders.discard(self)
        self._writing.memory.charge(-self._charged)
        self._charged = 0

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
