"""A file whose object grows in place, by AppendObject: readable by others while it is written.

Bytes gather in a buffer; a full one, and what there is at each `complete`, is appended while the
next fills. Every append leaves a whole prefix of the file in the bucket, which is `base` from then
on: readers elsewhere see the object grow, never another prefix than these.

An appendable object cannot be replaced in place, nor made of another object. What is there goes
first, and not before the first append:
- a file written anew (created over another, or cut to nothing): the old object is deleted, then
  the new one begun. A reader sees the old one, for the time of two requests none, then the new
  one grow. If the process ends between the two, the name is gone; the old bytes were given up.
- an object of another kind that is gone on from: all its bytes are held from the first write on,
  and its successor begins with all of them in one append, so it is never half there. Should that
  append fail, the old object is put back. If the process ends between the deletion and the append
  the object is lost: the time of two requests, in which nothing else is waited for. So whoever
  opens a file decides by `suits` how large an object is worth that.

Invariants:
- the file is `base`, or nothing; then what is queued, of which the first may be on its way; then
  `_held`. Appends go one after another, each at the position where `base` ends;
- the store's CRC-64 of the whole is compared after every append;
- nothing of others is overwritten: an append at another place than the end fails.

One lock orders writes, truncations and completions; one task a writer appends, in the mount's
nursery, and is never interrupted by them. While a write waits for memory `shed` may queue or set
aside what is held, so `_held` is looked at anew after each wait. The module is long because what
takes bytes in and what grows or replaces the object share that state.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from ossfs.runtime.blocks import BLOCK, Block
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import MARK, PLAIN, Buffer, Expected, ObjectType, PutOptions
from ossfs.store.crc import combine
from ossfs.store.errors import (
    Changed,
    Corrupt,
    Exists,
    NotAppendable,
    PositionConflict,
    StoreError,
)
from ossfs.writing.api import Completed, Target, Version
from ossfs.writing.context import Writing
from ossfs.writing.finishing import check_base, remove_wrong
from ossfs.writing.held import Held

log = logging.getLogger(__name__)

_ENDLESS = 1 << 62


def suits(base: Version, threshold: int) -> bool:
    """Whether to go on from `base` by appending; another kind of object up to `threshold` bytes.

    Those bytes are held, in memory or on disk, from the first write until the first append.
    """
    if base.type is ObjectType.APPENDABLE:
        return True
    return base.type is not ObjectType.SYMLINK and base.size <= threshold


class AppendWriter:
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
        self._held = Held(self._memory, self.size)
        self._queue: deque[Held] = deque()
        self._appending = False
        self._changed = trio.Event()
        self._replaces = False
        """Whether there is an object that the next append replaces."""
        self._acknowledged = base is not None
        """Whether somebody relies on bytes of the object."""
        self._unlinked = False
        self._lock = trio.Lock()
        self._memory.holders.add(self)

    @property
    def dirty(self) -> bool:
        base = self.base
        return not self._unlinked and (base is None or self.size > base.size)

    # -- bytes in --------------------------------------------------------------------------------

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
            if self.size + len(data) > self._writing.capabilities.maximum_put:
                raise FileSystemError(errno.EFBIG)
            self.last_write = self._writing.now()
            if data:
                await self._hold_base()
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

    async def _in_line(self) -> None:
        self._memory.waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._memory.waiting -= 1

    async def _take(self, data: memoryview) -> None:
        while data:
            room = self._most_held - self._held.size
            if room <= 0:
                await self._end_buffer()
                continue
            taken = self._held.fill(data[:room])
            if not taken:
                block = await self._block(self._held.wanted)
                if block is not None:
                    self._held.add(block)
                    continue
                taken = min(room, len(data), BLOCK)
                if not self._held.add_spilled(data[:taken]):
                    if self._unlinked:
                        raise FileSystemError(errno.ENOSPC)
                    continue  # the disk is full: wait for memory after all
            self.size += taken
            data = data[taken:]

    async def _block(self, size: int) -> Block | None:
        """Return memory for the next bytes, None where they must be set aside on disk.

        Those of a file without a name never wait: nothing of it can be appended to make room.
        """
        block = self._memory.try_take(size)
        if block is None and not self._unlinked:
            block = await self._memory.take(size)
            if block is not None and self.failure is not None:
                self._memory.give(block)
            self._check()
        return block

    @property
    def _most_held(self) -> int:
        """Bytes at which the buffer is full."""
        if self._unlinked:
            return _ENDLESS
        size = self._writing.part_size(1)
        if self.base is not None and self._foreign and not self._queue:
            size += self.base.size  # all of which is in the first append
        return size

    @property
    def _foreign(self) -> bool:
        """Whether what is gone on from cannot be appended to."""
        return self.base is not None and self.base.type is not ObjectType.APPENDABLE

    async def _hold_base(self) -> None:
        """Hold all bytes of a `base` that must be rewritten."""
        base = self.base
        if base is None or not self._foreign or self._queue or self._unlinked:
            return
        if not self._held.start:
            return  # they are held
        held = Held(self._memory, 0)
        try:
            while held.size < base.size:
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
        self._held = held  # the one before holds nothing

    # -- appending -------------------------------------------------------------------------------

    async def _end_buffer(self) -> None:
        """Queue the buffer that is full, since more bytes are to come.

        It waits for the one before. Where too many handlers wait already it is queued on disk.
        """
        if self._queue and not (self._memory.crowded and self._set_aside()):
            self._memory.waiting += 1
            try:
                await self._appended()
            finally:
                self._memory.waiting -= 1
        if self._held.size:
            self._queue_held()

    def _set_aside(self) -> bool:
        """Move what is held to the disk; whether all of it could be."""
        self._held.spill()
        return not self._held.in_memory

    def _queue_held(self) -> int:
        """Let what is held be appended; return the bytes of memory that will come back."""
        held = self._held
        memory = held.in_memory
        self._memory.shipping += memory
        self._queue.append(held)
        self._held = Held(self._memory, held.end)
        if not self._appending:
            self._appending = True
            self._writing.nursery.start_soon(self._carry)
        return memory

    async def _carry(self) -> None:
        """Append what is queued, as a task of its own."""
        try:
            while self._queue and not self._stopped:
                async with self._writing.sending.limiter, self._memory.brought(self._queue[0]):
                    if not self._stopped:
                        await self._append_first()
        except Exception as error:
            if not isinstance(error, StoreError | OSError):
                log.exception("unexpected failure of an append to %r", self.target.key)
            if not self._unlinked:
                self._fail(error)
                if isinstance(error, Corrupt) and not self._foreign:
                    await self._disown(error)
        except BaseException:
            self._fail(FileSystemError(errno.EIO))
            raise
        finally:
            self._appending = False
            self._memory.shipped(sum(held.in_memory for held in self._queue))
            if self.failure is not None:
                self._give_up()
            self._changed.set()

    @property
    def _stopped(self) -> bool:
        return self.failure is not None or self._unlinked

    async def _append_first(self) -> None:
        held = self._queue[0]
        version = await self._append(held)
        if self._unlinked:
            return  # its readers keep what they can still be given
        self._queue.popleft()
        memory = held.in_memory
        held.release()
        self._memory.shipped(memory)
        self.base = version
        self.target.exclusive = False
        self._replaces = False
        self._writing.progress += 1
        self._completed(version)
        self._changed.set()

    async def _append(self, held: Held) -> Version:
        """Make the bytes the object's end; return the version that holds them."""
        base = self.base
        if base is None:
            return await self._begin(held)
        if self._foreign:
            return await self._rewrite(base, held)
        return await self._go_on(base, held)

    async def _go_on(self, base: Version, held: Held) -> Version:
        try:
            return await self._put_after(base, held.views(), held)
        except (PositionConflict, NotAppendable) as error:
            raise Changed("somebody else wrote to the object", key=self.target.key) from error

    async def _begin(self, held: Held) -> Version:
        """Make a new object of the bytes, in place of any other unless that is forbidden."""
        if self.target.exclusive:
            made = await self._claim()
            return await self._go_on(made, held) if held.size else made
        views = held.views()
        if not self._replaces:
            try:
                return await self._put_after(None, views, held)
            except (PositionConflict, NotAppendable):
                log.debug("%r is there and is replaced", self.target.key)
        await self._writing.client.delete(self.target.key)
        try:
            return await self._put_after(None, views, held)
        except (PositionConflict, NotAppendable) as error:
            raise Changed("somebody else wrote the object", key=self.target.key) from error

    async def _claim(self) -> Version:
        """Make an empty object where there is none.

        The store answers alike when there is an empty one already, so the mark decides whose it
        is; our bytes do not go to another's.
        """
        client, target, options = self._writing.client, self.target, self.target.options()
        try:
            await client.append(
                target.key, 0, [], options, expect=self._writing.expected(0, 0, options)
            )
        except (PositionConflict, NotAppendable) as error:
            raise Exists("the object exists", key=target.key) from error
        info = await client.head(target.key, full=True)
        if info.metadata.get(MARK, "") != target.mark:
            raise Exists("the object exists", key=target.key)
        return Version.of(info)

    async def _put_after(
        self, base: Version | None, views: Sequence[Buffer], held: Held
    ) -> Version:
        position, before = (base.size, base.crc64) if base is not None else (0, 0)
        crc64 = combine(before, held.crc64, held.size) if before is not None else None
        reply = await self._writing.client.append(
            self.target.key,
            position,
            views,
            PLAIN if position else self._options,
            expect=Expected(held.end, crc64),
        )
        crc64 = crc64 if crc64 is not None else reply.crc64
        return Version(reply.etag, held.end, crc64, ObjectType.APPENDABLE)

    @property
    def _options(self) -> PutOptions:
        return replace(self.target.options(), forbid_overwrite=False)

    # -- replacing an object of another kind -----------------------------------------------------

    async def _rewrite(self, base: Version, held: Held) -> Version:
        """Make an appendable object, which begins with the bytes of `base`, in its place."""
        views = held.views()
        await check_base(self._writing.client, self.target.key, base)
        with trio.CancelScope(shield=True):
            try:
                await self._writing.client.delete(self.target.key)
                made = await self._put_after(None, views, held)
            except Exception as error:
                await self._put_back(base, views, error)
                if isinstance(error, PositionConflict | NotAppendable):
                    raise Changed("somebody else wrote it", key=self.target.key) from error
                raise
        return made

    async def _put_back(self, base: Version, views: Sequence[Buffer], error: Exception) -> None:
        """Make the object what it was, unless there is one again; the writer has failed."""
        client, key = self._writing.client, self.target.key
        if isinstance(error, Corrupt):
            await remove_wrong(self._writing.client, self.target.key, error)
        options = replace(self._options, forbid_overwrite=True)
        try:
            await client.put(
                key,
                _first(views, base.size),
                options,
                expect=self._writing.expected(base.size, base.crc64, options),
            )
        except Exists:
            log.debug("%r need not be put back", key)
        except StoreError as other:
            log.error(
                "%r (%d bytes) is lost: it was removed to be written anew, that failed (%s), and"
                " it could not be put back: %s",
                key,
                base.size,
                error,
                other,
            )

    # -- what the store holds against our word ---------------------------------------------------

    async def _disown(self, error: Corrupt) -> None:
        """Leave no object of our making whose bytes are not those that were written."""
        if not error.etag:
            return
        if self._acknowledged:
            log.error(
                "%r does not hold what was written; it stays for what it held before: %s",
                self.target.key,
                error,
            )
        else:
            await remove_wrong(self._writing.client, self.target.key, error)

    # -- giving memory back ----------------------------------------------------------------------

    def shed(self) -> int:
        held = self._held
        if self.failure is not None or not held.in_memory:
            return 0
        if self._unlinked and not self._appending:
            return sum(kept.spill() for kept in (*self._queue, held))
        if self._queue or not self.dirty:
            return held.spill()
        return self._queue_held()

    def drop_kept(self) -> int:
        return 0  # what was appended is not kept

    # -- completing ------------------------------------------------------------------------------

    async def complete(self) -> None:
        async with self._lock:
            await self._complete()

    async def acknowledge(self) -> None:
        self._check()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        async with self._lock:
            await self._complete()
            yield

    async def _complete(self) -> None:
        self._check()
        if not self.dirty:
            return
        if self._held.size or not self._queue:
            self._queue_held()
        try:
            await self._appended()
        except trio.Cancelled:
            self._fail(FileSystemError(errno.EIO))
            raise
        self._acknowledged = True

    async def _appended(self) -> None:
        """Return when nothing is queued any more; raise why something could not be appended."""
        while self._queue and self.failure is None:
            await self._change()
        self._check()

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    # -- bytes out -------------------------------------------------------------------------------

    async def read(self, offset: int, size: int) -> bytes | None:
        while True:
            self._check()
            end = min(offset + size, self.size)
            if offset >= end:
                return b""
            base, pieces = self.base, (*self._queue, self._held)
            own = pieces[0].start
            if end <= own and not self._appending:
                return None
            last = b"".join(piece.read(offset, end - offset) for piece in pieces)
            if offset >= own:
                return last
            assert base is not None
            first = bytearray(min(own, end) - offset)
            try:
                await self._writing.client.get_range_into(
                    self.target.key, offset, [memoryview(first)], if_match=base.etag
                )
            except Changed:
                # Each append changes the ETag, and before its reply is here.
                if self.base is base and not self._appending:
                    raise
                while self.base is base and self._appending:
                    await self._change()
                continue
            return bytes(first) + last

    # -- ends ------------------------------------------------------------------------------------

    async def truncate(self, size: int) -> None:
        async with self._lock:
            self._check()
            if size == self.size:
                return
            if size:
                raise FileSystemError(errno.EINVAL)
            try:
                await self._stop()
            except trio.Cancelled:
                self._fail(FileSystemError(errno.EIO))
                raise
            self._check()
            self._give_up()
            self._held = Held(self._memory, 0)
            self._replaces = self._replaces or self.base is not None
            self._acknowledged = False
            self.base = None
            self.size = 0

    async def _stop(self) -> None:
        """Drop what waits to be appended; let what is on its way arrive."""
        while self._appending and len(self._queue) > 1:
            held = self._queue.pop()
            memory = held.in_memory
            held.release()
            self._memory.shipped(memory)
        while self._appending:
            await self._change()

    async def discard(self) -> None:
        async with self._lock:
            self._unlinked = True
            while self._appending:
                await self._change()

    async def close(self) -> None:
        async with self._lock:
            self._memory.holders.discard(self)
            if self.failure is None:
                self.failure = FileSystemError(errno.EBADF)
            self._give_up()
            while self._appending:
                await self._change()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            self._give_up()

    def _give_up(self) -> None:
        """Let go of all that is not in the bucket but what is on its way."""
        self._held.release()
        if not self._appending:
            while self._queue:
                self._queue.popleft().release()


def _first(views: Sequence[Buffer], size: int) -> list[Buffer]:
    """Return the first `size` bytes of all."""
    found: list[Buffer] = []
    for view in views:
        found.append(view[:size])
        size -= len(found[-1])
    return found
