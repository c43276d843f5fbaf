"""Copies of objects within the bucket, with everything that belongs to them.

A copy is pinned to the version it was asked for: a source that changed is Changed, never a mixture.
Bytes, user metadata, Content-Type and storage class travel along. The copy's CRC-64 is compared
with the source's where both are known: that of parts before they become an object, that of one
request after it, and a wrong copy is then removed. Either way Corrupt is raised.

Large objects are copied by parts, side by side. Symlink objects are made anew. A store may refuse
appendable objects as the source of a copy (OSS did for years): such a one is read and put. The
copy of an appendable object is a normal one in any case.

An object may be copied onto itself, to give it other metadata. It is the only one there is then,
so nothing is ever removed, and an appendable one that the store does not copy stays as it is.

What concurs: any number of copies on the trio loop. What passes through here takes READERS times
PIECE bytes at most, however many objects do; these are not the budget's.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from ossfs.store.api import (
    MARK,
    Expected,
    ObjectInfo,
    ObjectType,
    PartReply,
    PutOptions,
    PutReply,
    UploadPart,
)
from ossfs.store.client import StoreClient
from ossfs.store.crc import combine, crc64
from ossfs.store.errors import Changed, Corrupt, Invalid, NotAppendable, StoreError, TooLarge
from ossfs.writing.api import MTIME, shown_time

log = logging.getLogger(__name__)

LARGE = 1024**3
"""Bytes above which a copy goes by parts (OSS advises so; one CopyObject may take 5 GB at most)."""
PIECE = 8 * 1024**2
"""Bytes held at once of an object that has to pass through here."""
READERS = 4
"""Objects that may pass through here at once."""
_reading = trio.CapacityLimiter(READERS)


async def copy_object(
    client: StoreClient,
    source: bytes,
    target: bytes,
    info: ObjectInfo,
    *,
    mtime_ns: int | None = None,
    exclusive_mark: str = "",
    content_type: str | None = None,
    concurrency: int | trio.CapacityLimiter = 64,
) -> PutReply:
    """Copy the object that `info`, a full HEAD, describes; return what is at `target` then.

    `mtime_ns` (since the epoch) is written to the copy's user metadata; `content_type` is its media
    type where that is to be another. With `exclusive_mark`
    nothing is replaced: Exists if there is something; where the reply was lost, the mark in the
    object's metadata tells whose it is. `concurrency` is for the parts of this copy alone, or a
    limiter that copies share. Raises Changed when the source is another version by now, TooLarge
    when no upload can hold it, Corrupt when the copy came out wrong.
    """
    if info.type is ObjectType.SYMLINK:
        return await _copy_link(client, source, target, info, exclusive_mark)
    if isinstance(concurrency, int):
        concurrency = trio.CapacityLimiter(concurrency)
    options = _options(info, mtime_ns, exclusive_mark, content_type)
    copy = _Copy(client, source, target, info, options, concurrency)
    try:
        try:
            # Onto itself nothing but metadata changes, whatever the size, and the type stays.
            advised = LARGE if source != target else info.size
            if info.size > min(advised, client.capabilities.maximum_copy_part):
                return await copy.by_parts()
            same = (
                mtime_ns is None
                and not exclusive_mark
                and content_type in (None, info.content_type)
            )
            same = same and info.storage_class == "Standard"
            return await copy.at_once(keep=same)
        except StoreError as error:
            if info.type is not ObjectType.APPENDABLE or source == target or not _refused(error):
                raise
            log.debug("the store does not copy the appendable object %r: it is read", source)
            return await copy.through_here()
    except Corrupt as error:
        if source != target and error.etag:
            await remove_copy(client, target, error.etag, crc64=info.crc64)
        raise


async def remove_copy(
    client: StoreClient, target: bytes, etag: str, *, crc64: int | None = None
) -> None:
    """Remove a copy that is not what it should be, if it still is the object of that ETag.

    One that turns out to have `crc64` after all is left. A failure is only logged: whoever calls
    has an error to raise already.
    """
    try:
        info = await client.head(target, full=True)
        if info.etag == etag and (crc64 is None or info.crc64 != crc64):
            await client.delete(target)
            log.error("removed %r: it was not what it was copied from", target)
    except StoreError as error:
        log.error("%r may hold other bytes than it was copied from: %s", target, error)


async def _copy_link(
    client: StoreClient, source: bytes, target: bytes, info: ObjectInfo, mark: str
) -> PutReply:
    """Make a link to the same key; its own user metadata, which nothing of ours writes, is lost.

    Exclusively it takes a CopyObject, which copies the link itself: the request for links cannot
    refuse to replace. If the reply to that is lost the copy fails, though the link may be there.
    """
    link = await client.get_symlink(source)
    if not mark:
        await client.put_symlink(target, link)
        return PutReply(info.etag, None)
    options = PutOptions(info.content_type, {MARK: mark}, forbid_overwrite=True)
    return await client.copy(source, target, options=options)


def _options(
    info: ObjectInfo, mtime_ns: int | None, mark: str, content_type: str | None
) -> PutOptions:
    """Return all that the copy carries besides its bytes."""
    metadata = dict(info.metadata)
    if mtime_ns is not None:
        metadata[MTIME] = shown_time(mtime_ns)
    if mark:
        metadata[MARK] = mark
    return PutOptions(content_type or info.content_type, metadata, bool(mark), info.storage_class)


def _refused(error: StoreError) -> bool:
    """Say whether a store may mean by this that the source is of a kind it does not copy."""
    return isinstance(error, Invalid | NotAppendable) or type(error) is StoreError


@dataclass(frozen=True, slots=True)
class _Copy:
    """One copy of an object that is no link."""

    client: StoreClient
    source: bytes
    target: bytes
    info: ObjectInfo
    options: PutOptions
    limiter: trio.CapacityLimiter

    def expect(self, crc64: int | None) -> Expected:
        return Expected(self.info.size, crc64, self.options.metadata.get(MARK, ""))

    async def at_once(self, *, keep: bool) -> PutReply:
        """Copy in one request; `keep`: the store keeps all that belongs to it by itself."""
        return await self.client.copy(
            self.source,
            self.target,
            if_match=self.info.etag,
            options=None if keep else self.options,
            expect=self.expect(self.info.crc64),
        )

    async def by_parts(self) -> PutReply:
        """Make ranges of the source, cut evenly, the parts of an upload."""
        size, capabilities = self.info.size, self.client.capabilities
        most = min(capabilities.maximum_copy_part, LARGE)
        piece = max(
            _share(size, _share(size, most)),
            capabilities.minimum_part,
            _share(size, capabilities.maximum_parts),
        )
        if piece > capabilities.maximum_copy_part:
            raise TooLarge(f"{size} bytes are too many to copy", key=self.source)
        offsets = range(0, size, piece)
        replies: dict[int, PartReply] = {}
        failures: list[StoreError] = []

        async def copy_part(number: int, offset: int) -> None:
            async with self.limiter:
                try:
                    replies[number] = await self.client.copy_part(
                        self.target,
                        upload,
                        number,
                        self.source,
                        offset,
                        min(piece, size - offset),
                        if_match=self.info.etag,
                    )
                except StoreError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

        async with self._upload() as upload:
            async with trio.open_nursery() as nursery:
                for number, offset in enumerate(offsets, 1):
                    nursery.start_soon(copy_part, number, offset)
            if failures:
                raise failures[0]
            crc: int | None = 0
            for number, offset in enumerate(offsets, 1):
                part = replies[number].crc64
                if crc is None or part is None:
                    crc = None
                else:
                    crc = combine(crc, part, min(piece, size - offset))
            return await self._complete(
                upload,
                [UploadPart(number, reply.etag) for number, reply in sorted(replies.items())],
                crc,
            )

    async def through_here(self) -> PutReply:
        """Read the source, pinned, and put it, by parts if it is large."""
        size, capabilities = self.info.size, self.client.capabilities
        piece = max(PIECE, capabilities.minimum_part, _share(size, capabilities.maximum_parts))
        async with _reading:
            buffer = memoryview(bytearray(min(piece, size)))
            if size <= piece:
                await self._read(0, buffer)
                crc = crc64([buffer])
                self._check(crc)
                return await self.client.put(
                    self.target, [buffer], self.options, expect=self.expect(crc)
                )
            async with self._upload() as upload:
                parts: list[UploadPart] = []
                whole = 0
                for number, offset in enumerate(range(0, size, piece), 1):
                    view = buffer[: min(piece, size - offset)]
                    await self._read(offset, view)
                    crc = crc64([view])
                    whole = crc64([view], whole)
                    reply = await self.client.upload_part(
                        self.target, upload, number, [view], crc64=crc
                    )
                    parts.append(UploadPart(number, reply.etag))
                return await self._complete(upload, parts, whole)

    async def _read(self, offset: int, view: memoryview) -> None:
        if view:
            await self.client.get_range_into(self.source, offset, [view], if_match=self.info.etag)

    def _check(self, crc: int | None) -> None:
        """Raise Corrupt for bytes that are not the source's, before they replace anything."""
        if None not in (crc, self.info.crc64) and crc != self.info.crc64:
            raise Corrupt(
                f"the copy has CRC-64 {crc}, its source {self.info.crc64}", key=self.source
            )

    @asynccontextmanager
    async def _upload(self) -> AsyncIterator[str]:
        """Begin an upload; it is aborted unless the block ends well."""
        upload = await self.client.create_upload(self.target, self.options)
        try:
            yield upload
        except BaseException:
            with trio.CancelScope(shield=True):
                try:
                    await self.client.abort_upload(self.target, upload)
                except StoreError as error:
                    log.warning(
                        "an upload of %r is left behind (see ossfs cleanup): %s", self.target, error
                    )
            raise

    async def _complete(self, upload: str, parts: list[UploadPart], crc: int | None) -> PutReply:
        """Make the parts, whose bytes together have `crc` if that is known, the object."""
        self._check(crc)
        if self.source == self.target:
            # Nothing pins what a completed upload replaces; this leaves one request's time.
            now = await self.client.head(self.source, full=True)
            if now.etag != self.info.etag:
                raise Changed("the object was replaced", key=self.source)
        return await self.client.complete_upload(
            self.target,
            upload,
            parts,
            forbid_overwrite=self.options.forbid_overwrite,
            expect=self.expect(self.info.crc64 if self.info.crc64 is not None else crc),
        )


def _share(size: int, count: int) -> int:
    """Divide, rounding up."""
    return -(-size // count)
