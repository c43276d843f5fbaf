"""The file system as far as it is read: lookup, attributes, directories, files.

Every name is answered from a fresh inode, or by one full HEAD and, when there is no
such object, one list of a single key (an implicit directory). The HEAD is the full one,
not objectMeta: objectMeta describes a symlink object itself, whose size and ETag would
make every later GET wrong.

An object that is found changed is a new inode (see tree.inodes). The operation that
finds the change on the old inode answers ESTALE once and detaches the name; the kernel
then repeats the lookup by itself. An inode that is open keeps answering with the
attributes it was opened with. What this mount itself writes or renames stays the same inode: its
attributes are the writer's while anything is not in the bucket yet, and no answer of the store that
may be older than our own change is taken for news (see tree.changes).

Everything runs on the trio loop. Between two awaits state is consistent; after an await
the name may stand for another inode, so results are applied to what is there then.
Raises FileSystemError for errors with an errno; StoreError passes as it is, since one
table (store.errors.errno_of) translates it.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from ossfs.reading.content import Content, Source
from ossfs.reading.reader import Reader, Reading
from ossfs.runtime.budget import Budget
from ossfs.runtime.clock import Clock
from ossfs.runtime.failure import FileSystemError
from ossfs.runtime.metrics import Metrics
from ossfs.runtime.single_flight import SingleFlight
from ossfs.store.api import ListEntry, ListPage, ObjectInfo, ObjectType
from ossfs.store.errors import Changed, NotFound, StoreError
from ossfs.tree.absences import Absences
from ossfs.tree.changes import Asked, LocalChanges
from ossfs.tree.inodes import Chosen, Directory, Inode, InodeTable, Symlink
from ossfs.tree.listing import Listing, Named
from ossfs.tree.names import KEY_MAX, NAME_MAX
from ossfs.tree.shared import SharedListings
from ossfs.vfs.kernel import KernelCaches
from ossfs.vfs.moves import Moves
from ossfs.vfs.opened import DirectoryHandle, FileHandle, OpenFile, writer_of
from ossfs.writing.api import read_time

log = logging.getLogger(__name__)

LISTINGS = 32 * 1024 * 1024
"""Bytes that shared listings take at most."""
DOUBT = 1.0
"""Seconds after which an open proves the attributes of a large object with its first GET."""


class Lister(Protocol):
    """The calls of the store client that names need."""

    async def head(self, key: bytes, *, full: bool = False) -> ObjectInfo: ...

    async def get_symlink(self, key: bytes) -> bytes: ...

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
    """What is believed, and what is shown."""

    attr_timeout: float
    """Seconds for which names and attributes are believed."""
    links: bool = False
    """Symlink objects are shown as symbolic links; else as what they name."""
    preserve_mtime: bool = False
    """Show the times that user metadata holds, at a HEAD an entry."""
    kernel_absence: bool = False
    """The kernel remembers missing names, so it may create one without looking it up again."""
    absence_timeout: float = 0.0
    """Seconds for which we remember missing names."""
    absences: int = 10_000
    """How many of them."""
    close_to_open: bool = False
    """Every open asks the store first."""
    list_nodes: bool = True
    """What is listed becomes an inode of the kernel (readdirplus)."""
    list_size: int = 1_000
    """Names asked for at once."""
    listing_life: float = 0.0
    """Seconds for which a listing may be shown again."""
    kept_inodes: int = 0
    """Inodes that stay when the kernel has forgotten them."""


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
        self._absences = Absences(policy.absence_timeout, policy.absences, clock.monotonic)
        self.inodes = InodeTable(prefix, self._absences if policy.absence_timeout > 0 else None)
        self.mounted_at = int(clock.wall())
        """What directories show as their mtime, seconds since the epoch."""
        self.inodes.kept_most = policy.kept_inodes
        self._changes = LocalChanges(self._changed_here)
        self._shared = SharedListings(self._asked, budget.charge, min(budget.limit // 16, LISTINGS))
        self._shared.life = policy.listing_life
        self._moves = Moves()
        self._written: set[Inode] = set()
        """Inodes that have a writer."""
        self._asking: Counter[int] = Counter()
        """Requests about names that are under way, by our last change when they were asked."""
        self._flights: SingleFlight[tuple[int, bytes], Inode] = SingleFlight()
        self._unclaimed: set[Inode] = set()
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self._next_handle = 1
        self._told_unspeakable = False
        self._pinned: set[int] = set()
        """Inodes that the kernel was asked to forget."""

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
            if (
                child is None
                and self._policy.absence_timeout
                and (directory.key + name in self._absences)
            ):
                raise FileSystemError(errno.ENOENT)
            while child is None or not (self.fresh(child) and child in self.inodes):
                child = await self._resolved(directory, name)
                if child in self.inodes:  # nobody made the kernel forget it while we waited
                    break
            found = child
        self.inodes.looked_up(found)
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
        if inode.parent is not parent or inode.name != name:
            return await self.attributes(number)  # renamed meanwhile
        try:
            now: Inode | None = await self._resolved(parent, name)
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
            now = None
        if now is inode:
            return inode
        if inode.parent is not parent or inode.name != name:
            return await self.attributes(number)
        if now is not None:
            self._unclaimed.add(now)
        self._kernel.drop_name(parent.number, name)
        if inode.opened is not None:
            return inode
        raise FileSystemError(errno.ESTALE)

    def known(self, number: int) -> Inode:
        """Return the inode as it is known here, without asking; FileSystemError(ESTALE)."""
        return self._inode(number)

    def sweep(self) -> None:
        """Drop inodes found for the kernel that it did not come back for; every few seconds."""
        for inode in self._unclaimed:
            self.inodes.release(inode)
        self._unclaimed.clear()
        self.inodes.drop_kept(self._clock.monotonic())
        self._shared.sweep()
        if self._changes:
            pages = [state.listing.asked.change for state in self._directories.values()]
            # Not those of shared pages: a change in their directory has ended these.
            self._changes.forget_until(min([self._changes.last, *pages, *self._asking]))

    def fresh(self, inode: Inode) -> bool:
        """Say whether the inode's attributes may be used without asking the store."""
        if inode.parent is None or self._clock.monotonic() < inode.deadline:
            return True
        return inode.opened is not None and _unfinished(inode)

    def remaining(self, inode: Inode) -> float:
        """Seconds for which the kernel may use the inode's name and attributes.

        What is left of the user-space life, so that the two never add up.
        """
        if inode.parent is None:
            return self._policy.attr_timeout
        if inode.opened is not None and writer_of(inode) is not None:
            return 0.0  # what is written changes them
        return max(0.0, inode.deadline - self._clock.monotonic())

    def absent_for(self, parent: int, name: bytes, most: float) -> float:
        """Return the seconds for which the kernel may remember that a name is missing.

        `most`, or what we remember it for if that is longer, since the store said so: what is
        answered from memory does not begin anew in the kernel.
        """
        age = self._absences.age(self._directory(parent).key + name)
        return min(most, max(0.0, max(most, self._policy.absence_timeout) - age))

    def surplus(self, threshold: int, covered: Iterable[bytes] = ()) -> list[tuple[int, bytes]]:
        """Return names, by directory, for the kernel to forget: idle files beyond `threshold`.

        Those that have been known longest, but not again what it has kept in spite of being asked.
        Never a directory, which may be somebody's working directory, nor what is `covered`, by
        paths from the root: the kernel would take away the mounts that others have there.
        """
        excess = len(self.inodes) - self.inodes.kept - threshold
        if excess <= 0:
            self._pinned.clear()
            return []
        mounts = {self.inodes.root.at(path) for path in covered}
        idle = [
            inode
            for inode in self.inodes
            if inode.lookups
            and inode.opened is None
            and not isinstance(inode, Directory)
            and inode.attached
            and inode not in mounts
        ]
        fresh = [inode for inode in idle if inode.number not in self._pinned]
        asked = [inode for inode in idle if inode.number in self._pinned]
        chosen = [*fresh, *asked][:excess]
        # Those that have gone meanwhile are nobody's any more; when all have been asked, anew.
        kept = asked if len(fresh) >= excess else []
        self._pinned = {inode.number for inode in (*kept, *chosen)}
        return [(inode.parent.number, inode.name) for inode in chosen if inode.parent is not None]

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """Take back the kernel's lookups: (inode number, count) pairs."""
        for number, count in counts:
            self.inodes.forget(number, count)

    async def _resolved(self, parent: Directory, name: bytes) -> Inode:
        """Ask the store what a name stands for, once for all who ask at the same time.

        Where nothing is believed, not by a request that was under way before.
        """
        return await self._flights.run(
            (parent.number, name),
            lambda: self._resolve(parent, name),
            fresh=not self._policy.attr_timeout,
        )

    async def _resolve(self, parent: Directory, name: bytes) -> Inode:
        if len(parent.key) + len(name) > KEY_MAX:
            raise FileSystemError(errno.ENAMETOOLONG)
        if not is_utf8(name):
            raise FileSystemError(errno.ENOENT)  # no key of OSS can be named so
        while True:
            asked = self._asked()
            self._asking[asked.change] += 1
            try:
                found = await self._ask(parent, name, asked)
            finally:
                self._asking[asked.change] -= 1
                if not self._asking[asked.change]:
                    del self._asking[asked.change]
            if found is not None:
                return found
            # We changed the name ourselves meanwhile: the answer may be from before that.
            child = parent.children.get(name)
            if child is not None:
                await self._moves.passed(child)
                if parent.children.get(name) is child and self.fresh(child):
                    return child

    async def _ask(self, parent: Directory, name: bytes, asked: Asked) -> Inode | None:
        """Ask the store once; None when the answer may be older than our own last change."""
        key = parent.key + name
        deadline = asked.at + self._policy.attr_timeout
        try:
            info = await self._store.head(key, full=True)
        except NotFound as error:
            if self._policy.links and error.code == "SymlinkTargetNotExist":
                info = ObjectInfo(0, int(self._clock.wall()), "", ObjectType.SYMLINK)
                return await self._adopt_link(parent, name, info, asked)
            if len(key) < KEY_MAX:
                page = await self._store.list_page(key + b"/", delimiter=b"", max_keys=1)
            else:  # no key is in it, and no store takes so long a prefix
                page = ListPage([], [], None)
            if self._changed_since(parent, name, asked, key):
                return None
            child = parent.children.get(name)
            if not page.entries:
                if child is not None:
                    if self._moves.moving(child):
                        return None  # its key goes before its name does
                    self.inodes.detach(child)
                    self._changed_here(parent, name)
                self._absences.add(key)
                raise FileSystemError(errno.ENOENT) from None
            found = self._adopt_directory(parent, name, deadline)
            assert isinstance(found, Directory)
            found.marked = page.entries[0].key == key + b"/"  # a marker comes first
            return found
        if self._policy.links and info.type is ObjectType.SYMLINK:
            return await self._adopt_link(parent, name, info, asked)
        if self._changed_since(parent, name, asked, key):
            return None
        kind = Symlink if info.type is ObjectType.SYMLINK else Inode
        inode = self._adopt_file(parent, name, info.size, info.mtime, info.etag, kind, deadline)
        chosen = read_time(info.metadata) if self._policy.preserve_mtime else None
        if chosen is not None and type(inode.mtime) is int:
            inode.mtime = Chosen(chosen)
        return inode

    async def _adopt_link(
        self, parent: Directory, name: bytes, info: ObjectInfo, asked: Asked
    ) -> Inode | None:
        key = parent.key + name
        target = await self._store.get_symlink(key)
        if self._changed_since(parent, name, asked, key):
            return None
        return self._link(parent, name, target, info, asked)

    def _link(
        self, parent: Directory, name: bytes, target: bytes, info: ObjectInfo, asked: Asked
    ) -> Inode:
        size = len(relative(parent.key, target))
        deadline = asked.at + self._policy.attr_timeout
        # Of a link only its target counts, so that is its version.
        version = "link-" + target.decode(errors="replace")
        return self._adopt_file(parent, name, size, info.mtime, version, Symlink, deadline)

    def _changed_since(self, parent: Directory, name: bytes, asked: Asked, key: bytes) -> bool:
        """Say whether an answer about `key` may be older than what we did to the name."""
        child = parent.children.get(name)
        if child is not None and child.opened is not None and _unfinished(child):
            return True
        if parent.key + name != key:
            return True  # a directory above it was renamed
        return self._changes.since(parent, name, asked)

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
        other = inode is None or type(inode) is not kind or inode.etag not in ("", etag)
        if inode is None or other or _failed(inode):
            inode = self.inodes.add(kind, parent, name, etag)
        elif not inode.etag:
            inode.etag = etag
        inode.size = size
        if type(inode.mtime) is not Chosen:
            inode.mtime = mtime
        inode.deadline = deadline
        return inode

    def _adopt_directory(self, parent: Directory, name: bytes, deadline: float) -> Directory:
        inode = parent.children.get(name)
        if not isinstance(inode, Directory):
            inode = self.inodes.add(Directory, parent, name)
            assert isinstance(inode, Directory)
        inode.deadline = deadline
        return inode

    def _adopt_named(
        self, parent: Directory, name: bytes, entry: ListEntry | None, asked: Asked, deadline: float
    ) -> Inode | None:
        """Take a listing's word for a name; never older than what is known.

        None: we changed the name ourselves after the page was asked for, and do not know it now.
        """
        inode = parent.children.get(name)
        if inode is not None and (
            inode.deadline > deadline or (inode.opened is not None and _unfinished(inode))
        ):
            return inode
        if self._changes and self._changes.since(parent, name, asked):
            return inode
        if entry is None:
            found = self._adopt_directory(parent, name, deadline)
            assert isinstance(found, Directory)
            found.marked = False  # a listing does not tell, and what was known gets old
            return found
        if not entry.symlink:
            inode = self._adopt_file(
                parent, name, entry.size, entry.mtime, entry.etag, Inode, deadline
            )
            if self._policy.preserve_mtime:
                inode.deadline = 0.0  # its time is in its metadata, of which a listing says nothing
            return inode
        # Size and ETag of the entry are the link's own: leave both to a full HEAD.
        if not isinstance(inode, Symlink):
            inode = self.inodes.add(Symlink, parent, name)
            inode.mtime = entry.mtime
        return inode

    # Directories

    def open_directory(self, number: int) -> int:
        """Open a directory for listing; return the handle."""
        directory = self._directory(number)

        async def source(
            prefix: bytes, start_after: bytes, token: str | None
        ) -> tuple[ListPage, Asked]:
            return await self._list_from(state, prefix, start_after, token)

        listing = Listing(
            directory.key,
            source,
            self._nursery,
            self._asked,
            self._budget.charge,
            self._skip,
        )
        state = DirectoryHandle(directory, listing)
        handle = self._new_handle()
        self._directories[handle] = state
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
        listing.follow(directory.key)
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
        adopt = self._adopt_named
        emitted = False
        # To emit nothing is to say that there is nothing more: not for names that are gone.
        while not emitted and (found := await listing.page_at(position - 2)) is not None:
            page, index = found
            names, numbers = page.names, page.numbers
            deadline = page.asked.at + self._policy.attr_timeout  # one float for all of them
            named: Named
            for named, number in zip(names[index:], numbers[index:], strict=True):
                position = number + 2
                inode = adopt(directory, named.name, named.entry, page.asked, deadline)
                if inode is None:
                    try:
                        inode = await self._there_now(directory, named.name)
                    except (FileSystemError, StoreError):
                        if emitted:
                            # With an error the kernel would get none of the names that are counted
                            # as looked up by now. It comes again for this one, which tells then.
                            return
                        raise
                if inode is None:
                    continue
                if not emit(named.name, inode, position):
                    self.inodes.release(inode)
                    return
                emitted = True
                if self._policy.list_nodes:
                    self.inodes.looked_up(inode)
                else:
                    self.inodes.retire(inode)

    async def _there_now(self, directory: Directory, name: bytes) -> Inode | None:
        """Ask what a name stands for that a page may be too old to tell."""
        try:
            return await self._resolved(directory, name)
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
            return None

    def close_directory(self, handle: int) -> None:
        """End a listing."""
        state = self._directories.pop(handle)
        state.listing.close()
        if state.walk is not None:
            state.walk.leave()
        directory = state.inode
        directory.listings -= 1
        self.inodes.release(directory)

    async def _list_from(
        self, state: DirectoryHandle, prefix: bytes, start_after: bytes, token: str | None
    ) -> tuple[ListPage, Asked]:
        """Return a page of the store with the files in it that are not in the bucket yet."""
        after = state.bounds.get(token, b"") if token is not None else start_after
        # One that is finished before the page comes may be neither in it nor unfinished any more.
        # It ends the walk, so no page that is older than this is taken.
        unfinished = self._unfinished_in(state.inode)

        over = state.walk is not None and state.walk.over
        if over and token is not None and after and not after.endswith(b"/"):
            # A token names the next key of then: what we have made before that one comes too.
            token, start_after = None, after

        def fetch() -> Awaitable[ListPage]:
            return self._store.list_page(
                prefix, start_after=start_after, token=token, max_keys=self._policy.list_size
            )

        if token is None and not start_after:
            patience = self._policy.attr_timeout
            state.walk = self._shared.begin(prefix, patience, state.walk)
            state.bounds.clear()
        walk = state.walk
        if walk is None or start_after or walk.prefix != prefix:
            asked = self._asked()
            page = await fetch()
        else:
            page, asked = await walk.page(token, fetch)
        last = b""
        if page.next_token is not None:
            ends = [ends[-1:] for ends in (page.prefixes, [e.key for e in page.entries[-1:]])]
            last = max((end[0] for end in ends if end), default=after)
            state.bounds[page.next_token] = last
        unfinished |= self._unfinished_in(state.inode)
        if not unfinished:
            return page, asked
        there = {entry.key for entry in page.entries}
        new = [
            ListEntry(key, inode.size, 0, "")
            for inode in unfinished
            if inode.parent is state.inode and inode.attached
            for key in [prefix + inode.name]
            if key not in there and after < key and (not last or key <= last)
        ]
        entries = sorted([*page.entries, *new]) if new else page.entries
        return ListPage(entries, page.prefixes, page.next_token), asked

    def _changed_here(self, parent: Directory, name: bytes) -> None:
        """Let nobody be shown a listing from before a change that was made, or found, here."""
        if self._shared:
            self._shared.changed(parent.key, name)

    def _unfinished_in(self, directory: Directory) -> set[Inode]:
        """Return the files in a directory that are not in the bucket as they are here."""
        return {
            inode
            for inode in self._written
            if inode.parent is directory and inode.attached and _unfinished(inode)
        }

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
        where the kernel retries by itself. (What the disk cache has proves nothing; it is of the
        version that was last seen.) Of a version that was read before, pages may be in the
        kernel, which a GET at every open would cost more than they save; a change then shows in
        the first READ that is not answered from them.
        """
        inode = self._inode(number)
        if isinstance(inode, Directory):
            raise FileSystemError(errno.EISDIR)
        if not inode.attached:
            raise FileSystemError(errno.ESTALE)
        if self._policy.close_to_open and not _unfinished(inode):
            await self._ask_again(inode)
        if not inode.etag and writer_of(inode) is None:
            await self.attributes(number)
        handle, file = self._opened(inode, direct=direct)
        if writer_of(inode) is not None:
            return handle
        reader = self._reader(file)
        age = self._policy.attr_timeout - (inode.deadline - self._clock.monotonic())
        if not inode.served and (reader.whole or age > DOUBT):
            try:
                await reader.prove()
            except BaseException as error:
                if file.reader is not reader:  # we replaced the version ourselves meanwhile
                    return handle
                self.close(handle)
                if isinstance(error, StoreError):
                    self._went_wrong(inode, error)
                raise
        return handle

    async def hold(self, number: int) -> tuple[int, Content]:
        """Have a file's version in the bucket at hand, reading nothing; close() ends it.

        Raises FileSystemError: EISDIR, ESTALE, EBUSY while the file is being written here.
        """
        inode = self._inode(number)
        if isinstance(inode, Directory):
            raise FileSystemError(errno.EISDIR)
        if not inode.attached:
            raise FileSystemError(errno.ESTALE)
        if writer_of(inode) is not None:
            raise FileSystemError(errno.EBUSY)
        if not inode.etag:
            await self.attributes(number)
        handle, file = self._opened(inode, direct=False)
        return handle, self._content(inode, file.opened)

    async def _ask_again(self, inode: Inode) -> None:
        """Make sure that the store has the version an inode stands for; ESTALE when it has not.

        Asked on our own: who joined a request that is under way could get an answer from before
        the other's close, and who waited for the next could wait long.
        """
        parent, name = inode.parent, inode.name
        assert parent is not None
        try:
            now: Inode | None = await self._resolve(parent, name)
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
            now = None
        if now is inode:
            return
        if inode.parent is not parent or inode.name != name:
            await self._ask_again(inode)  # renamed meanwhile
            return
        if now is not None:
            self._unclaimed.add(now)
        self._kernel.drop_name(parent.number, name)
        raise FileSystemError(errno.ESTALE)

    async def read(self, handle: int, offset: int, size: int) -> bytes | memoryview:
        """Return bytes of an open file; good until the caller awaits, short only at its end."""
        file = self._files[handle]
        while True:
            writer = file.opened.writer
            if writer is not None:
                own = await writer.read(offset, size)
                if own is not None:
                    return own
            reader = self._reader(file)
            try:
                data = await reader.read(offset, size)
            except StoreError as error:
                if file.reader is not reader:  # we replaced the version ourselves meanwhile
                    continue
                if isinstance(error, NotFound) and self._moves.moving(file.inode):
                    await self._moves.passed(file.inode)
                    reader.content.moved(file.inode.key, file.inode.etag)
                    continue
                self._went_wrong(file.inode, error)
                raise
            file.inode.served = True
            return data

    def close(self, handle: int) -> None:
        """End a handle; with the last one of an inode what was fetched is dropped."""
        file = self._files.pop(handle)
        if file.reader is not None:
            file.reader.close()
        file.opened.handles.discard(file)
        self._let_go(file.inode, file.opened)

    def _opened(self, inode: Inode, *, direct: bool) -> tuple[int, FileHandle]:
        """Add a handle to an inode."""
        opened = inode.opened
        if not isinstance(opened, OpenFile):
            opened = inode.opened = OpenFile()
        file = FileHandle(inode, opened, direct=direct)
        opened.handles.add(file)
        handle = self._new_handle()
        self._files[handle] = file
        return handle, file

    def _reader(self, file: FileHandle) -> Reader:
        """Return the handle's reader of the version in the bucket."""
        if file.reader is None:
            content = self._content(file.inode, file.opened)
            file.reader = self._reading.open(content, file.inode.number, direct=file.direct)
        return file.reader

    def _content(self, inode: Inode, opened: OpenFile) -> Content:
        """Return what is held of the version in the bucket."""
        if opened.content is None:
            base = opened.writer.base if opened.writer is not None else None
            size = base.size if base is not None else inode.size
            etag = base.etag if base is not None else inode.etag
            opened.content = Content(self._source, inode.key, size, etag)
        return opened.content

    def _forget_version(self, opened: OpenFile) -> None:
        """Let the handles read anew: this mount has put another version in the bucket."""
        for file in opened.handles:
            if file.reader is not None:
                file.reader.close()
                file.reader = None
        if opened.content is not None:
            opened.content.drop_all()
            opened.content = None

    def _let_go(self, inode: Inode, opened: OpenFile) -> None:
        """Drop an inode's open state once nobody needs it."""
        if opened.handles or opened.writer is not None:
            return
        self._forget_version(opened)
        inode.opened = None
        self.inodes.release(inode)

    def found_gone(self, number: int, error: StoreError) -> None:
        """Take note of what a request for an inode's version was answered with."""
        self._went_wrong(self._inode(number), error)

    def _went_wrong(self, inode: Inode, error: StoreError) -> None:
        """Drop the name of an object that is another one by now, here and in the kernel."""
        if not isinstance(error, Changed | NotFound):
            return
        self._metrics.count("stale_objects")
        if inode.attached and inode.parent is not None:
            parent = inode.parent
            self.inodes.detach(inode)
            self._changed_here(parent, inode.name)
            self._kernel.drop_name(parent.number, inode.name)
        self._kernel.drop_attributes(inode.number)

    # Helpers

    def _asked(self) -> Asked:
        return Asked(self._changes.last, self._clock.monotonic())

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


def is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _unfinished(inode: Inode) -> bool:
    """Say whether an open inode's bytes are not all in the bucket, so only its writer knows it."""
    writer = writer_of(inode)
    return writer is not None and writer.dirty and writer.failure is None


def _failed(inode: Inode) -> bool:
    """Say whether an open inode's bytes could not be saved, so that it is its handles' alone."""
    opened = inode.opened
    if not isinstance(opened, OpenFile) or opened.writer is None or opened.finished is not None:
        return False
    return opened.writer.failure is not None


def relative(directory: bytes, key: bytes) -> bytes:
    """Return the path from a directory (its key, with the slash) to what a key names."""
    here, there = directory.split(b"/")[:-1], key.split(b"/")
    common = 0
    while common < min(len(here), len(there) - 1) and here[common] == there[common]:
        common += 1
    return b"/".join([b".."] * (len(here) - common) + there[common:])
