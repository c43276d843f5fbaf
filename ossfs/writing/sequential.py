"""A file written from its beginning or its end on: the default mode.

Bytes gather in a part while the parts before it are on their way. A file that fits one part is
one PutObject; a larger one is a multipart upload, which `complete` ends. What is written after
that goes on from the object that is there: a small file is put again from the bytes kept of it, a
large one is a new upload that begins with a copy of the object, pinned to its ETag. An object too
small to be a part of its own is read back and put again.

Invariants:
- the file is the bytes before `_held`, of which `_before` is the CRC-64, and then `_held`. Those
  before it are `base`, or if there is an upload its parts (copies of `base` come first);
- every object made is compared with the CRC-64 of the bytes as they passed;
- an object that goes on from `base` is made only if `base` is still there: a HEAD right before
  says so, and the copies are pinned besides. One that does not replaces whatever is there.

One lock orders writes, truncations and completions. While a write waits for memory `shed` may
ship or set aside what is held, so `_held` is looked at anew after each wait.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer, ObjectType, PutReply
from ossfs.store.crc import combine
from ossfs.store.errors import Corrupt, StoreError
from ossfs.writing.api import Completed, Target, Version
from ossfs.writing.context import Writing
from ossfs.writing.finishing import check_base, remove_wrong
from ossfs.writing.held import Held
from ossfs.writing.upload import Upload

log = logging.getLogger(__name__)

_ENDLESS = 1 << 62


class SequentialWriter:
    """Implements `api.Writer`."""

    shared = False

    def __init__(
        self, writing: Writing, target: Target, base: Version | None, completed: Completed
    ) -> None:
        """Go on from `base`, or from nothing: then an object is made even of no bytes at all."""
        self._writing = writing
        self._memory = writing.memory
        self._completed = completed
        self.target = target
        self.base = base
        self.size = base.size if base is not None else 0
        self.failure: Exception | None = None
        self.last_write = writing.now()
        self._before = base.crc64 if base is not None else 0
        self._held = Held(self._memory, self.size)
        self._upload: Upload | None = None
        self._dirty = base is None
        self._settling = False
        self._unlinked = False
        self._lock = trio.Lock()
        self._memory.holders.add(self)

    @property
    def dirty(self) -> bool:
        return self._dirty and not self._unlinked

    # -- bytes in -----------------------------------------------------------------------------

    async def write(self, offset: int | None, data: Buffer) -> int:
        lock = self._lock
        try:
            lock.acquire_nowait()  # without a checkpoint: tiny writes come by the million
        except trio.WouldBlock:
            await self._in_line()
        try:
            self._check()
            if offset is not None and offset != self.size:
                raise FileSystemError(errno.EINVAL)
            self.last_write = self._writing.now()
            if data:
                if self._upload is None and not self._fits_upload:
                    raise FileSystemError(errno.EFBIG)
                await self._read_base()
                self._dirty = True  # what is kept of the file is needed now, and not dropped
            before = self.size
            try:
                await self._take(memoryview(data))
            except FileSystemError:
                if self.size == before or self.failure is not None:
                    raise
            return self.size - before  # of a disk, too, the last bytes that fit are taken
        except trio.Cancelled:
            self._fail(FileSystemError(errno.EIO))
            raise
        finally:
            lock.release()

    @property
    def _fits_upload(self) -> bool:
        """Whether a new upload has part numbers for what is in the bucket and for more."""
        capabilities = self._writing.capabilities
        return self._writing.copies(self._held.start) < capabilities.maximum_parts

    async def _in_line(self) -> None:
        self._memory.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._memory.waiting -= 1

    async def _take(self, data: memoryview) -> None:
        while data:
            room = self._part_size - self._held.size
            if room <= 0:
                await self._end_part()
                continue
            taken = self._held.fill(data[:room])
            if not taken:
                if await self._extend():
                    continue
                # So many wait already that one more would keep others from being answered; or the
                # file has no name any more, and nothing can be shipped to make room.
                taken = min(room, len(data), BLOCK)
                if not self._held.add_spilled(data[:taken]):
                    if self._unlinked:
                        raise FileSystemError(errno.ENOSPC)
                    continue  # the disk is full: wait for memory after all
            self.size += taken
            data = data[taken:]

    async def _extend(self) -> bool:
        """Get memory for the next bytes; False where they must be set aside on disk."""
        block = self._memory.try_take(self._held.wanted)
        if block is None and not self._unlinked:
            block = await self._memory.take(self._held.wanted)
            if block is not None and self.failure is not None:
                self._memory.give(block)
            self._check()
        if block is None:
            return False
        self._held.add(block)
        return True

    async def _read_base(self) -> None:
        """Hold the bytes of `base` if they are too few to be a part of their own."""
        base, minimum = self.base, self._writing.capabilities.minimum_part
        if self._unlinked or base is None or not 0 < self._held.start < minimum:
            return
        assert not self._held.size
        held = Held(self._memory, 0)
        try:
            while held.size < base.size:  # what is not in blocks is a handler's: a block at most
                piece = memoryview(bytearray(min(BLOCK, base.size - held.size)))
                await self._writing.client.get_range_into(
                    self.target.key, held.size, [piece], if_match=base.etag
                )
                await held.gather(piece)
            self._check()
            if base.crc64 not in (None, held.crc64):
                raise Corrupt("the object's bytes do not have its CRC-64", key=self.target.key)
        except BaseException:
            held.release()
            raise
        self._held, self._before = held, 0

    # -- parts out ----------------------------------------------------------------------------

    @property
    def _part_size(self) -> int:
        if self._unlinked:
            return _ENDLESS
        return self._upload.part_size if self._upload is not None else self._writing.part_size(1)

    async def _end_part(self) -> None:
        """Ship the part that is full; more bytes are to come."""
        upload = self._begun()
        if upload.full:
            raise FileSystemError(errno.EFBIG)
        # Where too many handlers wait already more parts wait instead, as long as the disk has
        # room for what follows them.
        if upload.busy and not (self._memory.crowded and self._memory.spill.has_room):
            await upload.room()
            self._check()
        if self._held.size:
            self._ship(upload)

    def _begun(self) -> Upload:
        """Return the upload; a new one begins with what is in the bucket already."""
        if self._upload is None:
            upload = Upload(self._writing, self.target.key, self.target.options(), self._fail)
            if self._held.start:
                assert self.base is not None
                upload.copy(self.target.key, self.base)
            self._upload = upload
        return self._upload

    def _ship(self, upload: Upload) -> int:
        held = self._held
        if self._before is not None:
            self._before = combine(self._before, held.crc64, held.size)
        self._held = Held(self._memory, held.end)
        return upload.send(held)

    def shed(self) -> int:
        if self._settling or self.failure is not None:
            return 0
        if not self._dirty:
            return self.drop_kept()
        if not self._held.in_memory:
            return 0
        sparse = self._upload is None or not self._upload.crowded
        if (
            not self._unlinked
            and self._held.size >= self._writing.capabilities.minimum_part
            and sparse
        ):
            return self._ship(self._begun())
        return self._held.spill()

    def drop_kept(self) -> int:
        if self._dirty or self._settling or self._unlinked or not self._held.in_memory:
            return 0
        freed = self._held.in_memory
        self._drop()
        return freed

    def _drop(self) -> None:
        """Keep nothing of a file that is in the bucket."""
        held = self._held
        self._before = held.crc64 if not held.start else self._before
        self._held = Held(self._memory, self.size)
        held.release()

    # -- completing ---------------------------------------------------------------------------

    async def complete(self) -> None:
        async with self._lock:
            await self._complete()

    async def acknowledge(self) -> None:
        self._check()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._complete()
            yield  # what is only kept may go meanwhile: a directory's rename can take hours

    async def _complete(self) -> None:
        self._check()
        if not self.dirty:
            return
        self._settling = True
        try:
            self._done(await self._made())
        except Corrupt as error:
            self._fail(error)
            await remove_wrong(self._writing.client, self.target.key, error)
            raise
        except (StoreError, OSError) as error:
            self._fail(error)
            raise
        except BaseException:
            self._fail(FileSystemError(errno.EIO))
            raise
        finally:
            self._settling = False
            self._memory.nudge()  # who waits for memory may have been refused by shed() meanwhile

    async def _made(self) -> PutReply:
        """Make the object."""
        held, options = self._held, self.target.options()
        if self._upload is None and not held.start:
            if self.base is not None:
                await check_base(self._writing.client, self.target.key, self.base)
            expect = self._writing.expected(self.size, held.crc64, options)
            async with self._memory.brought(held):
                return await self._writing.client.put(
                    self.target.key, held.views(), options, expect=expect
                )
        upload = self._begun()
        if held.size:
            self._ship(upload)
        await upload.sent()
        if self.base is not None:
            await check_base(self._writing.client, self.target.key, self.base)
        reply = await upload.complete(self._before)
        self._upload = None
        return reply

    def _done(self, reply: PutReply) -> None:
        crc = self._held.crc64 if not self._held.start else self._before
        kind = ObjectType.MULTIPART if self._held.start else ObjectType.NORMAL
        self.base = Version(reply.etag, self.size, crc, kind)
        self._dirty = False
        if self._held.spilled:
            self._drop()  # the disk is for what is on its way
        self.target.exclusive = False
        self._writing.progress += 1
        self._completed(self.base)

    # -- bytes out ----------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes | None:
        while True:
            self._check()
            held, base = self._held, self.base
            end = min(offset + size, self.size)
            if offset >= end:
                return b""
            if offset >= held.start:
                return held.read(offset, end - offset)
            if base is not None and end <= base.size:
                return None
            if base is not None and held.start <= base.size:
                head = bytearray(held.start - offset)
                await self._writing.client.get_range_into(
                    self.target.key, offset, [memoryview(head)], if_match=base.etag
                )
                if held is self._held and self.failure is None:
                    return bytes(head) + held.read(held.start, end - held.start)
            elif self._unlinked:
                raise FileSystemError(errno.ESTALE)
            else:
                await self.complete()

    # -- ends ---------------------------------------------------------------------------------

    async def truncate(self, size: int) -> None:
        async with self._lock:
            self._check()
            if size == self.size:
                return
            if size:
                raise FileSystemError(errno.EINVAL)
            self._give_up()
            self._held, self._before = Held(self._memory, 0), 0
            self.base = None
            self.size = 0
            self._dirty = True

    async def discard(self) -> None:
        async with self._lock:
            self._unlinked = True
            self._abort()

    async def close(self) -> None:
        async with self._lock:
            self._memory.holders.discard(self)
            self._give_up()
            if self.failure is None:
                self.failure = FileSystemError(errno.EBADF)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            self._give_up()

    def _give_up(self) -> None:
        """Let go of all that is not in the bucket."""
        self._abort()
        self._held.release()

    def _abort(self) -> None:
        if self._upload is not None:
            self._writing.leave(self._upload.abort)
            self._upload = None
