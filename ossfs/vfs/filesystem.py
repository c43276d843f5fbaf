"""The read-only file system: lookup, attributes, directories, files.

Every name is answered from a fresh inode, or by one full HEAD and, when there is no
such object, one list of a single key (an implicit directory). The HEAD is the full one,
not objectMeta: objectMeta describes a symlink object itself, whose size and ETag would
make every later GET wrong.

An object that is found changed is a new inode (see tree.inodes). The operation that
finds the change on the old inode answers ESTALE once and detaches the name; the kernel
then repeats the lookup by itself. An inode that is open keeps answering with the
attributes it was opened with.

Everything runs on the trio loop. Between two awaits state is consistent; after an await
the name may stand for another inode, so results are applied to what is there then.
Raises FileSystemError for errors with an errno; StoreError passes as it is, since one
table (store.errors.errno_of) translates it.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from ossfs.reading.content import Content, Source
from ossfs.reading.reader import Reader, Reading
from ossfs.runtime.budget import Budget
from ossfs.runtime.clock import Clock
from ossfs.runtime.metrics import Metrics
from ossfs.store.api import ListEntry, ListPage, ObjectInfo, ObjectType
from ossfs.store.errors import Changed, NotFound, StoreError
from ossfs.tree.inodes import Directory, Inode, InodeTable, Symlink
from ossfs.tree.listing import Listing, Named
from ossfs.tree.names import KEY_MAX, NAME_MAX
from ossfs.vfs.kernel import KernelCaches
from ossfs.vfs.single_flight import SingleFlight

log = logging.getLogger(__name__)

DOUBT = 1.0
"""Seconds after which an open proves the attributes of a large object with its first GET."""


class FileSystemError(Exception):
    """An answer with an errno that does not come from the store."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


class Lister(Protocol):
    """The calls of the store client that names need."""

    async def head(self, key: bytes, *, full: bool = False) -> ObjectInfo: ...

    async def list_page(
        self,
        prefix: bytes,
        *,
        delimiter: bytes = b"/",
        token: str | None = None,
        start_after: bytes = b"",
        max_keys: int = 1_000,
    ) -> ListPage: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """How long things are believed; seconds."""

    attr_timeout: float


class OpenFile:
    """An inode's open state, shared by its handles."""

    __slots__ = ("content", "handles")

    def __init__(self, content: Content) -> None:
        self.content = content
        self.handles = 0


class FileHandle:
    """One open file."""

    __slots__ = ("inode", "reader")

    def __init__(self, inode: Inode, reader: Reader) -> None:
        self.inode = inode
        self.reader = reader


class DirectoryHandle:
    """One open directory."""

    __slots__ = ("inode", "listing", "started")

    def __init__(self, inode: Directory, listing: Listing) -> None:
        self.inode = inode
        self.listing = listing
        self.started = False


class FileSystem:
    """One mounted bucket or prefix."""

    def __init__(
        self,
        store: Lister,
        reading: Reading,
        *,
        prefix: bytes,
        policy: Policy,
        clock: Clock,
        budget: Budget,
        metrics: Metrics,
        kernel: KernelCaches,
        nursery: trio.Nursery,
    ) -> None:
        """`nursery` runs GETs and listing pages; it must outlive every handle."""
        self._store = store
        self._reading = reading
        self._source: Source = reading.source
        self._policy = policy
        self._clock = clock
        self._budget = budget
        self._metrics = metrics
        self._kernel = kernel
        self._nursery = nursery
        self.inodes = InodeTable(prefix)
        self.mounted_at = int(clock.wall())
        """What directories show as their mtime, seconds since the epoch."""
        self._flights: SingleFlight[tuple[int, bytes], Inode] = SingleFlight()
        self._unclaimed: set[Inode] = set()
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self._next_handle = 1
        self._told_unspeakable = False

    # Names

    async def lookup(self, parent: int, name: bytes) -> Inode:
        """Return what `name` in directory `parent` stands for, counted as one lookup.

        Raises FileSystemError (ENOTDIR, ENAMETOOLONG, ENOENT, ESTALE) or StoreError.
        """
        directory = self._directory(parent)
        if name == b".":
            found: Inode = directory
        elif name == b"..":
            found = directory.parent or directory
        elif len(name) > NAME_MAX:
            raise FileSystemError(errno.ENAMETOOLONG)
        else:
            child = directory.children.get(name)
            while child is None or not (self.fresh(child) and child in self.inodes):
                child = await self._resolved(directory, name)
                if child in self.inodes:  # nobody made the kernel forget it while we waited
                    break
            found = child
        found.lookups += 1
        return found

    async def attributes(self, number: int) -> Inode:
        """Return the inode with fresh attributes, asking the store if they are not.

        Raises FileSystemError(ESTALE) when the object changed or went, so that the kernel looks
        the name up again; an inode that is open answers with what it was opened with.
        """
        inode = self._inode(number)
        if self.fresh(inode) or inode.parent is None or not inode.attached:
            return inode
        parent, name = inode.parent, inode.name
        if isinstance(inode, Directory):
            asked = self._clock.monotonic()
            page = await self._store.list_page(inode.key, delimiter=b"", max_keys=1)
            if page.entries:
                inode.deadline = asked + self._policy.attr_timeout
                return inode
        try:
            now: Inode | None = await self._resolved(parent, name)
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
            now = None
        if now is inode:
            return inode
        if now is not None:
            self._unclaimed.add(now)
        self._kernel.drop_name(parent.number, name)
        if inode.opened is not None:
            return inode
        raise FileSystemError(errno.ESTALE)

    def sweep(self) -> None:
        """Drop inodes found for the kernel that it did not come back for; every few seconds."""
        for inode in self._unclaimed:
            self.inodes.release(inode)
        self._unclaimed.clear()

    def fresh(self, inode: Inode) -> bool:
        """Say whether the inode's attributes may be used without asking the store."""
        return inode.parent is None or self._clock.monotonic() < inode.deadline

    def remaining(self, inode: Inode) -> float:
        """Seconds for which the kernel may use the inode's name and attributes.

        What is left of the user-space life, so that the two never add up.
        """
        if inode.parent is None:
            return self._policy.attr_timeout
        return max(0.0, inode.deadline - self._clock.monotonic())

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """Take back the kernel's lookups: (inode number, count) pairs."""
        for number, count in counts:
            self.inodes.forget(number, count)

    async def _resolved(self, parent: Directory, name: bytes) -> Inode:
        """Ask the store what a name stands for, once for all who ask at the same time."""
        return await self._flights.run((parent.number, name), lambda: self._resolve(parent, name))

    async def _resolve(self, parent: Directory, name: bytes) -> Inode:
        key = parent.key + name
        if len(key) > KEY_MAX:
            raise FileSystemError(errno.ENAMETOOLONG)
        if not _is_utf8(name):
            raise FileSystemError(errno.ENOENT)  # no key of OSS can be named so
        asked = self._clock.monotonic()
        try:
            info = await self._store.head(key, full=True)
        except NotFound:
            page = await self._store.list_page(key + b"/", delimiter=b"", max_keys=1)
            if not page.entries:
                child = parent.children.get(name)
                if child is not None:
                    self.inodes.detach(child)
                raise FileSystemError(errno.ENOENT) from None
            return self._adopt_directory(parent, name, asked + self._policy.attr_timeout)
        kind = Symlink if info.type is ObjectType.SYMLINK else Inode
        deadline = asked + self._policy.attr_timeout
        return self._adopt_file(parent, name, info.size, info.mtime, info.etag, kind, deadline)

    def _adopt_file(
        self,
        parent: Directory,
        name: bytes,
        size: int,
        mtime: int,
        etag: str,
        kind: type[Inode],
        deadline: float,
    ) -> Inode:
        """Make `name` stand for this version: the inode that is there if it is the same one."""
        inode = parent.children.get(name)
        if inode is None or type(inode) is not kind or inode.etag not in ("", etag):
            inode = self.inodes.add(kind, parent, name, etag)
        elif not inode.etag:
            inode.etag = etag
        inode.size = size
        inode.mtime = mtime
        inode.deadline = deadline
        return inode

    def _adopt_directory(self, parent: Directory, name: bytes, deadline: float) -> Inode:
        inode = parent.children.get(name)
        if not isinstance(inode, Directory):
            inode = self.inodes.add(Directory, parent, name)
        inode.deadline = deadline
        return inode

    def _adopt_named(
        self, parent: Directory, name: bytes, entry: ListEntry | None, deadline: float
    ) -> Inode:
        """Take a listing's word for a name; never older than what is known."""
        inode = parent.children.get(name)
        if inode is not None and inode.deadline > deadline:
            return inode
        if entry is None:
            return self._adopt_directory(parent, name, deadline)
        if not entry.symlink:
            return self._adopt_file(
                parent, name, entry.size, entry.mtime, entry.etag, Inode, deadline
            )
        # Size and ETag of the entry are the link's own: leave both to a full HEAD.
        if not isinstance(inode, Symlink):
            inode = self.inodes.add(Symlink, parent, name)
            inode.mtime = entry.mtime
        return inode

    # Directories

    def open_directory(self, number: int) -> int:
        """Open a directory for listing; return the handle."""
        directory = self._directory(number)
        listing = Listing(
            directory.key,
            self._list_from,
            self._nursery,
            self._clock.monotonic,
            self._budget.charge,
            self._skip,
        )
        handle = self._new_handle()
        self._directories[handle] = DirectoryHandle(directory, listing)
        directory.listings += 1
        return handle

    async def read_directory(
        self,
        handle: int,
        position: int,
        emit: Callable[[bytes, Inode, int], bool],
    ) -> None:
        """Hand names from cookie `position` on to `emit(name, inode, next cookie)`.

        Stops when emit returns False or one page is through. The lookup of each name that emit
        took is counted here. Position 0 lists afresh. `.` and `..` come first, uncounted.
        """
        state = self._directories[handle]
        directory, listing = state.inode, state.listing
        if position == 0:
            if state.started:
                listing.rewind()
            state.started = True
            if not emit(b".", directory, 1):
                return
            position = 1
        if position == 1:
            if not emit(b"..", directory.parent or directory, 2):
                return
            position = 2
        found = await listing.page_at(position - 2)
        if found is None:
            return
        page, index = found
        names, numbers = page.names, page.numbers
        adopt = self._adopt_named
        deadline = page.asked + self._policy.attr_timeout  # one float for all of them
        named: Named
        for named, number in zip(names[index:], numbers[index:], strict=True):
            inode = adopt(directory, named.name, named.entry, deadline)
            if not emit(named.name, inode, number + 2):
                self.inodes.release(inode)
                return
            inode.lookups += 1

    def close_directory(self, handle: int) -> None:
        """End a listing."""
        state = self._directories.pop(handle)
        state.listing.close()
        directory = state.inode
        directory.listings -= 1
        self.inodes.release(directory)

    async def _list_from(self, prefix: bytes, start_after: bytes, token: str | None) -> ListPage:
        return await self._store.list_page(prefix, start_after=start_after, token=token)

    def _skip(self, keys: list[bytes]) -> None:
        self._metrics.count("unspeakable_keys", len(keys))
        if not self._told_unspeakable:
            self._told_unspeakable = True
            log.warning(
                "skipping keys that no path can hold, such as %r (said once; counted as "
                "unspeakable_keys)",
                keys[0],
            )

    # Files

    async def open(self, number: int, *, direct: bool = False) -> int:
        """Open a file for reading; return the handle.

        `direct` readers (O_DIRECT) pass the kernel's page cache by.

        An inode whose name stands for something else by now answers ESTALE: the kernel, which has
        not heard of it yet, looks the name up again and opens what is there.
        Where no byte of this version was served yet, the first GET leaves at once for a small
        object, and for a large one whose attributes are older than DOUBT; open waits for its first
        bytes, which the reader would have to do anyway, so that a change is answered ESTALE here,
        where the kernel retries by itself. Of a version that was read before, pages may be in the
        kernel, which a GET at every open would cost more than they save; a change then shows in
        the first READ that is not answered from them.
        """
        inode = self._inode(number)
        if isinstance(inode, Directory):
            raise FileSystemError(errno.EISDIR)
        if not inode.attached:
            raise FileSystemError(errno.ESTALE)
        if not inode.etag:
            await self.attributes(number)
        opened = inode.opened
        if not isinstance(opened, OpenFile):
            opened = OpenFile(Content(self._source, inode.key, inode.size, inode.etag))
            inode.opened = opened
        opened.handles += 1
        handle = self._new_handle()
        reader = self._reading.open(opened.content, number, direct=direct)
        self._files[handle] = FileHandle(inode, reader)
        age = self._policy.attr_timeout - (inode.deadline - self._clock.monotonic())
        if not inode.served and (reader.whole or age > DOUBT):
            try:
                await reader.prove()
            except BaseException as error:
                self.close(handle)
                if isinstance(error, StoreError):
                    self._went_wrong(inode, error)
                raise
        return handle

    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview:
        """Return bytes of an open file; good until the caller awaits, short only at its end."""
        file = self._files[handle]
        try:
            data = await file.reader.read(offset, size)
        except StoreError as error:
            self._went_wrong(file.inode, error)
            raise
        file.inode.served = True
        return data

    def close(self, handle: int) -> None:
        """End a handle; with the last one of an inode what was fetched is dropped."""
        file = self._files.pop(handle)
        file.reader.close()
        opened = file.inode.opened
        assert isinstance(opened, OpenFile)
        opened.handles -= 1
        if not opened.handles:
            opened.content.drop_all()
            file.inode.opened = None
            self.inodes.release(file.inode)

    def _went_wrong(self, inode: Inode, error: StoreError) -> None:
        """Drop the name of an object that is another one by now, here and in the kernel."""
        if not isinstance(error, Changed | NotFound):
            return
        self._metrics.count("stale_objects")
        if inode.attached and inode.parent is not None:
            parent = inode.parent
            self.inodes.detach(inode)
            self._kernel.drop_name(parent.number, inode.name)
        self._kernel.drop_attributes(inode.number)

    # Helpers

    def _new_handle(self) -> int:
        handle = self._next_handle
        self._next_handle += 1
        return handle

    def _inode(self, number: int) -> Inode:
        try:
            return self.inodes[number]
        except KeyError:
            raise FileSystemError(errno.ESTALE) from None

    def _directory(self, number: int) -> Directory:
        inode = self._inode(number)
        if not isinstance(inode, Directory):
            raise FileSystemError(errno.ENOTDIR)
        return inode


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
