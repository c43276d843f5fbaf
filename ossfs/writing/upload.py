"""One multipart upload: parts go out side by side, and are made the object at the end.

The upload is begun by whichever part comes first, so nobody waits for that. Parts are numbered
in the order of the file's bytes; each is sent from the memory that holds it, which goes back
when the store has it. The first failure stops the rest and is kept.

All on the trio loop; sending tasks run in the mount's nursery.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import PartReply, PutOptions, PutReply, UploadPart
from ossfs.store.crc import combine
from ossfs.store.errors import StoreError, TooLarge
from ossfs.writing.api import Version
from ossfs.writing.context import Writing
from ossfs.writing.held import Held

log = logging.getLogger(__name__)


class Upload:
    """Parts of one object."""

    def __init__(
        self, writing: Writing, key: bytes, options: PutOptions, failed: Callable[[Exception], None]
    ) -> None:
        """`failed` is called, once, when a part cannot be sent."""
        self._writing = writing
        self._failed = failed
        self._options = options
        self._beginning = trio.Lock()
        self._id = ""
        self._parts: dict[int, UploadPart] = {}
        self._crcs: dict[int, tuple[int | None, int]] = {}
        """Part number to its CRC-64 as the store computed it, and its size."""
        self._pending = 0
        self._sending = 0
        """Of the pending parts those that are sent from here, not copied."""
        self._changed = trio.Event()
        self._numbers = 0
        self.key = key
        self.end = 0
        """Bytes of the file that have a part."""
        self.failure: Exception | None = None

    @property
    def part_size(self) -> int:
        """Bytes of the next part."""
        return self._writing.part_size(self._numbers + 1)

    @property
    def full(self) -> bool:
        """Whether no further part is possible but a last one."""
        return self._numbers >= self._writing.capabilities.maximum_parts - 1

    @property
    def crowded(self) -> bool:
        """Whether part numbers are too few to spend them on parts that are not full."""
        return self._numbers >= self._writing.capabilities.maximum_parts * 9 // 10

    @property
    def busy(self) -> bool:
        """Whether so many parts wait to be sent that more would only fill the memory."""
        return self._sending >= self._writing.sending.share() and self.failure is None

    def send(self, held: Held) -> int:
        """Make the bytes the next part, and its memory the upload's; return how much that is."""
        memory = held.in_memory
        self._writing.memory.shipping += memory
        if not self._sending:
            self._writing.sending.began()
        self._sending += 1
        self._begin(held.size, partial(self._send, held, memory))
        return memory

    def copy(self, source: bytes, version: Version) -> None:
        """Make the whole of a version in the bucket, pinned to its ETag, the next parts."""
        pieces = self._writing.copies(version.size)
        if self._numbers + pieces >= self._writing.capabilities.maximum_parts:
            raise TooLarge(f"{version.size} bytes are too many to go on from", key=source)
        self.copy_range(source, version.etag, 0, version.size)

    def copy_range(self, source: bytes, etag: str, offset: int, size: int) -> None:
        """Make a range of a version the next parts; at least the store's minimum, or the last."""
        end = offset + size
        for left in range(self._writing.copies(size), 0, -1):
            # Evenly, so that no piece is under the store's minimum.
            piece = -(-(end - offset) // left)
            self._begin(piece, partial(self._copy, source, etag, offset, piece))
            offset += piece

    async def room(self) -> None:
        """Wait until another part may be sent; for a WRITE handler."""
        memory = self._writing.memory
        memory.waiting += 1
        self._writing.sending.waited()
        try:
            while self.busy:
                await self._change()
        finally:
            memory.waiting -= 1

    async def sent(self) -> None:
        """Wait until the store has all parts; raise why one could not be sent."""
        while self._pending and self.failure is None:
            await self._change()
        if self.failure is not None:
            raise self.failure

    @property
    def crc64(self) -> int | None:
        """Of all parts, once sent; None where the store did not tell one of theirs."""
        crc = 0
        for _, (part_crc, size) in sorted(self._crcs.items()):
            if part_crc is None:
                return None
            crc = combine(crc, part_crc, size)
        return crc

    async def complete(self, crc64: int | None) -> PutReply:
        """Make the parts, all sent, the object, whose CRC must be `crc64` where that is known."""
        return await self._writing.client.complete_upload(
            self.key,
            self._id,
            [part for _, part in sorted(self._parts.items())],
            forbid_overwrite=self._options.forbid_overwrite,
            expect=self._writing.expected(self.end, crc64, self._options),
        )

    async def abort(self) -> None:
        """Stop sending, wait until all memory is back, make the store drop the parts."""
        if self.failure is None:
            self.failure = TooLarge("the upload was given up", key=self.key)
        while self._pending:
            await self._change()
        if not self._id:
            return
        try:
            await self._writing.client.abort_upload(self.key, self._id)
        except StoreError as error:
            log.warning("an upload of %r is left behind (see ossfs cleanup): %s", self.key, error)

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    def _begin(self, size: int, send: Callable[[int], Awaitable[PartReply]]) -> None:
        self._numbers += 1
        self._pending += 1
        self.end += size
        self._writing.nursery.start_soon(self._carry, self._numbers, size, send)

    async def _carry(
        self, number: int, size: int, send: Callable[[int], Awaitable[PartReply]]
    ) -> None:
        """Send one part, as a task of its own: its failure is the upload's."""
        try:
            reply = await send(number)
            self._parts[number] = UploadPart(number, reply.etag)
            self._crcs[number] = (reply.crc64, size)
        except Exception as error:
            if not isinstance(error, StoreError | OSError):
                log.exception("unexpected failure of part %d of %r", number, self.key)
            if self.failure is None:
                self.failure = error
                self._failed(error)
        except BaseException:
            if self.failure is None:  # the mount ends: this part is missing
                self.failure = FileSystemError(errno.EIO)
                self._failed(self.failure)
            raise
        finally:
            self._pending -= 1
            self._changed.set()

    async def _identity(self) -> str:
        """Return the upload's id, beginning it if nobody has."""
        async with self._beginning:
            if self.failure is not None:
                raise self.failure
            if not self._id:
                self._id = await self._writing.client.create_upload(self.key, self._options)
        return self._id

    async def _send(self, held: Held, memory: int, number: int) -> PartReply:
        writing = self._writing
        try:
            async with writing.sending.limiter:
                identity = await self._identity()
                async with writing.memory.brought(held):
                    with writing.sending.measured():
                        return await writing.client.upload_part(
                            self.key, identity, number, held.views(), crc64=held.crc64
                        )
        finally:
            self._sending -= 1
            if not self._sending:
                writing.sending.ended()
            held.release()
            writing.memory.shipped(memory)

    async def _copy(
        self, source: bytes, etag: str, offset: int, size: int, number: int
    ) -> PartReply:
        identity = await self._identity()
        async with self._writing.copying:
            if self.failure is not None:
                raise self.failure
            return await self._writing.client.copy_part(
                self.key, identity, number, source, offset, size, if_match=etag
            )
