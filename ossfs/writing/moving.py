"""A whole directory under another name: every key below one prefix is moved to another.

Not atomic, for the protocol has no such thing, but nothing is lost at any moment. All keys are
listed, then copied, `concurrency` at once, each pinned to the version that was listed. When all
copies are whole the sources are listed again, page by page, and those on a page that are still
exactly what was listed at first are deleted. Markers (keys that end in a slash) go last, the
deepest first, the directory's own at the very end: the old directory is there until all of it
has moved. At the new name its marker comes first.

A source that changed, or came, meanwhile stays and is reported, and with it the markers it is
under. Any other error stops the move. While copies are made nothing is deleted, so all of the old
directory is there then, and some of the new; later, each file is at its new name, and some at the
old one, too. Nothing is undone: a repeated rename goes on from there.

What remains: a store deletes by name, so an object that is put at an old name between the page
that shows it and its delete (a request's time, with its repetitions) goes with it; a marker's
time is that of all deletes. An object put at a new name by somebody else is replaced.

What concurs: everything on the trio loop; what is listed is held until the end, some 600 bytes an
object.
"""

from __future__ import annotations

import errno
import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import ListEntry, ListPage, PutReply
from ossfs.store.client import StoreClient
from ossfs.store.errors import Changed, Corrupt, Invalid, NotFound, StoreError
from ossfs.writing import copying
from ossfs.writing.copying import copy_object, remove_copy

log = logging.getLogger(__name__)

OnMoved = Callable[[bytes, bytes, PutReply | None, str], None]
"""(old key, new key, reply, ETag of the version that was copied) on the loop, when all copies are
whole and before the old key is deleted, for every key that was copied; the reply is None for a
symlink."""

KEY_MAX = 1_023
"""Bytes of a key (OSS)."""
DELETES = 8
"""Batches that are deleted at once."""
_SHOWN = 3
_SLASH = re.compile(b"/")


@dataclass(frozen=True, slots=True)
class Moved:
    """Counts of keys."""

    moved: int
    kept: int = 0
    """Objects that changed or came meanwhile: they are where they were. The markers they are under
    stay, too, and are counted nowhere."""
    vanished: int = 0
    """Objects that were gone before they could be copied."""


class MoveFailed(Exception):
    """The move stopped; nothing is lost."""

    def __init__(
        self, moved: int, left: int, copied: int, reason: StoreError, keys: Sequence[bytes]
    ) -> None:
        shown = ", ".join(map(repr, keys))
        super().__init__(
            f"{moved} objects have moved, {left} are left at their old names (such as {shown}),"
            f" {copied} of them at the new ones too: {reason}"
        )
        self.moved = moved
        self.left = left
        """Objects that are not known to be gone from their old names."""
        self.copied = copied
        """How many of those left have a whole copy at the new name."""
        self.reason = reason
        """The first error."""
        self.keys = keys
        """A few of those left, such as have no copy first."""


async def move_tree(
    client: StoreClient,
    source: bytes,
    target: bytes,
    *,
    limit: int,
    concurrency: int,
    on_moved: OnMoved,
    pieces: trio.CapacityLimiter | None = None,
) -> Moved:
    """Move all keys under `source` to `target`, both of which end in a slash.

    `concurrency` objects are copied at once; `pieces` is for the parts of large ones, all together.
    Before anything is copied: FileSystemError(EMFILE) when there are more than `limit` (as ossfs
    2.0 has it), ENAMETOOLONG when a key would get too long, EINVAL when one of the directories is
    in the other. MoveFailed when it stopped half-way.
    """
    if source.startswith(target) or target.startswith(source):
        raise FileSystemError(errno.EINVAL)
    entries: list[ListEntry] = []
    page = None
    while page is None or page.next_token is not None:
        page = await _page(client, source, page)
        entries += page.entries
        if len(entries) > limit:
            raise FileSystemError(errno.EMFILE)
    growth = len(target) - len(source)
    if any(len(entry.key) + growth > KEY_MAX for entry in entries):
        raise FileSystemError(errno.ENAMETOOLONG)
    pieces = pieces or trio.CapacityLimiter(concurrency)
    move = _Move(client, source, target, concurrency, pieces, on_moved, entries)
    await move.copy()
    await move.remove()
    return move.result()


async def _page(client: StoreClient, prefix: bytes, before: ListPage | None) -> ListPage:
    """Return the first page of all keys, or the one after `before`."""
    token = before.next_token if before is not None else None
    most = client.capabilities.list_page
    return await client.list_page(prefix, delimiter=b"", token=token, max_keys=most)


class _Move:
    """One move under way."""

    def __init__(
        self,
        client: StoreClient,
        source: bytes,
        target: bytes,
        concurrency: int,
        pieces: trio.CapacityLimiter,
        on_moved: OnMoved,
        entries: Sequence[ListEntry],
    ) -> None:
        self._client = client
        self._source = source
        self._target = target
        self._on_moved = on_moved
        self._concurrency = concurrency
        self._pieces = pieces
        self._left = {entry.key: entry for entry in entries}
        """What is not known to be gone from its old name, as it was listed at first."""
        self._copied: dict[bytes, PutReply | None] = {}
        """What has a whole copy."""
        self._kept: set[bytes] = set()
        """What stays at its old name; the markers it needs are in `_needed`."""
        self._needed: set[bytes] = set()
        self._moved = 0
        self._reason: StoreError | None = None

    # -- copies -------------------------------------------------------------------------------

    async def copy(self) -> None:
        """Copy everything; MoveFailed at the first error that is not about one source alone."""
        todo = iter(self._left.values())
        if self._source in self._left:  # it was listed first
            await self._copy_some(itertools.islice(todo, 1))
        async with trio.open_nursery() as nursery:
            for _ in range(min(self._concurrency, len(self._left))):
                nursery.start_soon(self._copy_some, todo)
        self._check()

    async def _copy_some(self, todo: Iterator[ListEntry]) -> None:
        while self._reason is None:
            entry = next(todo, None)
            if entry is None:
                return
            try:
                await self._copy_one(entry)
            except (Changed, NotFound) as error:
                log.debug("%r is not moved: %s", entry.key, error)
            except StoreError as error:
                self._reason = self._reason or error

    async def _copy_one(self, entry: ListEntry) -> None:
        new = self._new(entry.key)
        reply: PutReply | None = None
        if entry.symlink:
            await self._copy_link(entry.key, new)
        elif entry.plain and entry.size <= min(
            copying.LARGE, self._client.capabilities.maximum_copy_part
        ):
            reply = await self._copy_plainly(entry, new)
        else:
            info = await self._client.head(entry.key, full=True)
            if info.etag != entry.etag:
                raise Changed("the object was replaced", key=entry.key)
            reply = await copy_object(self._client, entry.key, new, info, concurrency=self._pieces)
        self._copied[entry.key] = reply

    async def _copy_link(self, old: bytes, new: bytes) -> None:
        try:
            link = await self._client.get_symlink(old)
        except Invalid as error:
            if error.code == "NotSymlink":
                raise Changed("the link was replaced", key=old) from error
            raise
        await self._client.put_symlink(new, link)

    async def _copy_plainly(self, entry: ListEntry, new: bytes) -> PutReply:
        """Copy in the one request that keeps all that belongs to the object.

        That the copy has the source's ETag, which is the MD5 of its bytes, says as much as an
        equal CRC-64. An object once made of parts may get another ETag: only that costs a HEAD.
        """
        client = self._client
        reply = await client.copy(entry.key, new, if_match=entry.etag)
        if reply.etag == entry.etag:
            return PutReply(entry.etag, reply.crc64)  # one text for both, there may be millions
        if reply.crc64 is None:
            return reply
        try:
            info = await client.head(entry.key, full=True)
            if info.etag != entry.etag:
                raise Changed("the object was replaced", key=entry.key)
            if info.crc64 not in (None, reply.crc64):
                raise Corrupt(
                    f"the copy has CRC-64 {reply.crc64}, its source {info.crc64}", key=entry.key
                )
        except StoreError:
            await remove_copy(client, new, reply.etag)  # nobody knows whether it is right
            raise
        return reply

    # -- deletes ------------------------------------------------------------------------------

    async def remove(self) -> None:
        """Delete the sources that are still what was copied; MoveFailed at the first error."""
        markers: list[bytes] = []
        slots = trio.Semaphore(DELETES)
        async with trio.open_nursery() as nursery:
            page = None
            while (page is None or page.next_token is not None) and self._reason is None:
                try:
                    page = await _page(self._client, self._source, page)
                except StoreError as error:
                    self._reason = self._reason or error
                    break
                files: list[bytes] = []
                for entry in page.entries:
                    key = entry.key
                    if key not in self._copied or self._left.get(key) != entry:
                        self._kept.add(key)
                    else:
                        (markers if key.endswith(b"/") else files).append(key)
                for batch in self._batches(files):
                    await slots.acquire()
                    nursery.start_soon(self._delete_in_slot, batch, slots)
        self._check()
        await self._delete_markers(markers)
        self._check()
        for key in self._left:
            if key in self._copied:
                self._tell(key)

    async def _delete_markers(self, markers: Sequence[bytes]) -> None:
        """Delete the markers of directories in which nothing is kept, level by level."""
        self._needed = {key[: at.end()] for key in self._kept for at in _SLASH.finditer(key)}
        free = sorted((key for key in markers if key not in self._needed), key=_depth, reverse=True)
        for _, level in itertools.groupby(free, _depth):
            for batch in self._batches(list(level)):
                await self._delete(batch)
        if self._client.capabilities.directories_linger and self._reason is None:
            await self._delete_lingering()

    async def _delete_lingering(self) -> None:
        """Make the server forget the directories that had no marker, level by level."""
        implied = {
            key[: at.end()]
            for key in self._copied
            for at in _SLASH.finditer(key, len(self._source) - 1)
        }
        free = sorted(implied - self._needed - self._kept, key=_depth, reverse=True)
        try:
            for _, level in itertools.groupby(free, _depth):
                for batch in self._batches(list(level)):
                    await self._client.delete_many(batch)
        except StoreError as error:
            log.debug("directories under %r may be shown for a while: %s", self._source, error)

    def _batches(self, keys: list[bytes]) -> Iterator[list[bytes]]:
        most = self._client.capabilities.delete_many
        for first in range(0, len(keys), most):
            yield keys[first : first + most]

    async def _delete_in_slot(self, batch: list[bytes], slots: trio.Semaphore) -> None:
        try:
            await self._delete(batch)
        finally:
            slots.release()

    async def _delete(self, batch: list[bytes]) -> None:
        """Delete a batch, unless something has failed."""
        if self._reason is not None:
            return
        for key in batch:
            self._tell(key)
        try:
            await self._client.delete_many(batch)
        except StoreError as error:
            self._reason = self._reason or error
            return
        for key in batch:
            del self._left[key]
        self._moved += len(batch)

    # -- what came of it ----------------------------------------------------------------------

    def result(self) -> Moved:
        """Count; what stays is said in the log."""
        # What the second listing did not show was gone by then: after its copy, or before.
        gone = [key for key in self._left if key not in self._kept and key not in self._needed]
        copied = sum(key in self._copied for key in gone)
        if self._kept:
            log.warning(
                "%d objects under %r stay there, for they changed or came while it was renamed: %s",
                len(self._kept),
                self._source,
                ", ".join(map(repr, sorted(self._kept)[:_SHOWN])),
            )
        return Moved(self._moved + copied, len(self._kept), len(gone) - copied)

    def _check(self) -> None:
        """Raise MoveFailed if something has failed."""
        if self._reason is None:
            return
        both = [key for key in self._left if key in self._copied]
        old_only = (key for key in self._left if key not in self._copied)
        keys = list(itertools.islice(itertools.chain(old_only, both), _SHOWN))
        raise MoveFailed(
            self._moved, len(self._left), len(both), self._reason, keys
        ) from self._reason

    def _tell(self, key: bytes) -> None:
        self._on_moved(key, self._new(key), self._copied[key], self._left[key].etag)

    def _new(self, key: bytes) -> bytes:
        return self._target + key[len(self._source) :]


def _depth(key: bytes) -> int:
    return key.count(b"/")
