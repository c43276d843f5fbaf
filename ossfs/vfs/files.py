"""Files that are written: create, open for writing, write, flush, fsync, release, truncate.

An inode that is written has one writer (see writing.api). Where the mode lets only one handle
write, that handle is the writer's owner; another open for writing is EBUSY, unless the owner's
descriptor has been closed since its last write: then only its release is still on its way, and
the next one takes over. What the writer puts in the bucket is the same inode's next version.

The kernel sends FLUSH at every close of a descriptor, several times for one open; each completes
what there is. RELEASE comes once, later, and nobody waits for it: an open that finds a writer
without handles waits until that one is through.

A writer that fails is not the name's any more: the name goes back to what the bucket holds, and
the handles get the error from every further call.

On the trio loop; see vfs.filesystem for what holds between awaits.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import trio

from ossfs.reading import pushing
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer, ObjectInfo, ObjectType
from ossfs.store.client import StoreClient
from ossfs.store.errors import Changed, NotFound, StoreError
from ossfs.tree.inodes import Chosen, Directory, Inode, Local, Symlink
from ossfs.tree.names import KEY_MAX, NAME_MAX
from ossfs.vfs.filesystem import FileSystem, Policy, is_utf8
from ossfs.vfs.opened import FileHandle, OpenFile, writer_of
from ossfs.writing.api import MTIME, Completed, Target, Version, Writer
from ossfs.writing.context import Writing
from ossfs.writing.copying import copy_object

log = logging.getLogger(__name__)


class Modes(Protocol):
    """How files of this mount are written."""

    @property
    def random(self) -> bool:
        """Whether any place of a file can be written, by several handles (temp_dir is given)."""
        ...

    def open(self, target: Target, base: Version | None, completed: Completed) -> Writer:
        """Return who goes on from `base`, or writes a new object where it is None."""
        ...


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """What the user chose about writing; the defaults are the safe ones."""

    sync_upload: bool = True
    """close() waits until the bytes are in the bucket."""
    ignore_fsync: bool = False
    """fsync() returns at once."""
    preserve_mtime: bool = False
    """Times set on a finished file are written to its object at once."""
    rename_directories: bool = True
    rename_limit: int = 2_000_000
    """Objects a directory that is renamed may hold."""
    rename_concurrency: int = 128


class WritableFiles(FileSystem):
    """The file system with files that can be written."""

    def __init__(
        self,
        client: StoreClient,
        writing: Writing,
        modes: Modes,
        write_policy: WritePolicy,
        new_mark: Callable[[], str],
        *arguments: Any,
        **options: Any,
    ) -> None:
        """`new_mark` makes unguessable text that tells one exclusive create from another."""
        super().__init__(*arguments, **options)
        self._client = client
        self._writing = writing
        self._modes = modes
        self._writes = write_policy
        self._new_mark = new_mark
        self._created = 0

    # Opening

    async def create(
        self, parent: int, name: bytes, flags: int, *, direct: bool = False
    ) -> tuple[Inode, int]:
        """Make a file and open it, or open the one that is there; counted as one lookup.

        The kernel has looked the name up and found nothing. With O_EXCL the bucket is asked again,
        and the object is made only if there still is none.
        """
        directory = self._directory(parent)
        async with self._moves.change(directory):
            self._check_name(directory, name)
            there = await self._there(directory, name, sure=bool(flags & os.O_EXCL))
            if there is None:
                return self._new_file(directory, name, flags, direct=direct)
        if flags & os.O_EXCL:
            raise self._exists(there)
        handle = await self.open_for(there.number, flags, direct=direct)
        self.inodes.looked_up(there)
        return there, handle

    def _new_file(
        self, directory: Directory, name: bytes, flags: int, *, direct: bool
    ) -> tuple[Inode, int]:
        self._created += 1
        inode = self.inodes.add(Inode, directory, name, f"new-{self._created}")
        inode.etag = ""
        inode.mtime = self._now()
        target = Target(inode.key)
        if flags & os.O_EXCL:
            target.exclusive, target.mark = True, self._new_mark()
        inode.lookups += 1
        handle, file = self._opened(inode, direct=direct)
        try:
            self._begin_writing(file, flags, target, None)
        except BaseException:
            inode.lookups -= 1
            self.inodes.detach(inode)
            self.close(handle)
            raise
        return inode, handle

    def adopt(self, policy: Policy, write_policy: WritePolicy) -> None:
        """Go by these from now on; the kernel's caches end as they were promised to.

        So it may still remember absences when it is no longer to remember new ones.
        """
        remembered = policy.kernel_absence or self._policy.kernel_absence
        self._policy = replace(policy, kernel_absence=remembered)
        self.inodes.kept_most = policy.kept_inodes
        self._shared.life = policy.listing_life
        self._writes = write_policy

    async def open_for(self, number: int, flags: int, *, direct: bool = False) -> int:
        """Open a file as `flags` say; return the handle."""
        inode = self._inode(number)
        writer = writer_of(inode)
        if writer is not None:
            self._look_at(inode, writer)  # which may have failed while nobody asked it anything
        if flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC:
            return await self.open(number, direct=direct)
        if isinstance(inode, Directory):
            raise FileSystemError(errno.EISDIR)
        async with self._moves.change(inode):
            return await self._open_to_write(inode, flags, direct=direct)

    async def _open_to_write(self, inode: Inode, flags: int, *, direct: bool) -> int:
        while True:
            opened = await self._free_to_write(inode)
            writer = opened.writer if opened is not None else None
            target, base = Target(inode.key, replaces=inode.etag), None
            if writer is not None:
                break
            if not flags & os.O_TRUNC:
                target, base = await self._begin_from(inode)
            elif self._policy.close_to_open:
                await self._still_there(inode)
                target = Target(inode.key, replaces=inode.etag)
            if base is None or self._modes.random:
                await self._end_pushes(inode)
            if writer_of(inode) is None and inode.attached:
                break  # else somebody was quicker
        handle, file = self._opened(inode, direct=direct)
        if writer is None:
            try:
                self._begin_writing(file, flags, target, base)
            except BaseException:
                self.close(handle)
                raise
            return handle
        self._take_over(file, flags)
        if flags & os.O_TRUNC:
            try:
                await self._truncate(inode, writer, 0)
            except BaseException:
                await self.release(handle)
                raise
        return handle

    async def _free_to_write(self, inode: Inode) -> OpenFile | None:
        """Return the inode's open state once another handle may write; EBUSY if it may not."""
        while True:
            if not inode.attached:  # or it would come back under a name that was taken from it
                raise FileSystemError(errno.ESTALE)
            opened = inode.opened
            if not isinstance(opened, OpenFile) or opened.writer is None:
                return opened if isinstance(opened, OpenFile) else None
            if opened.finished is not None:
                await opened.finished.wait()
                continue
            if opened.writer.failure is not None:
                raise FileSystemError(errno.ESTALE)  # the name stands for another inode by now
            through = opened.flushed and not opened.writer.dirty
            if not self._modes.random and opened.owner is not None and not through:
                raise FileSystemError(errno.EBUSY)
            return opened

    async def _begin_from(self, inode: Inode) -> tuple[Target, Version]:
        """Return what a writer needs to know to go on from the object that is there."""
        try:
            info = await self._client.head(inode.key, full=True)
            if inode.etag and info.etag != inode.etag:
                raise Changed("the object was replaced", key=inode.key)
        except (Changed, NotFound) as error:
            self._went_wrong(inode, error)
            raise Changed("the object was replaced", key=inode.key) from error
        if not inode.attached:
            raise FileSystemError(errno.ESTALE)
        inode.etag, inode.size = info.etag, info.size
        return target_of(inode.key, info), Version.of(info)

    async def _end_pushes(self, inode: Inode) -> None:
        """Let no bytes of the version that is read reach pages that are the writer's from now on.

        Where a file only grows they are the same bytes.
        """
        opened = inode.opened
        if isinstance(opened, OpenFile) and opened.content is not None:
            await pushing.replace(opened.content)

    async def _still_there(self, inode: Inode) -> None:
        """Make sure that there is a file to cut, of whatever version: it may be a directory by now.

        Raises Changed when it has gone, so that the kernel looks the name up again.
        """
        try:
            await self._client.head(inode.key)
        except NotFound as error:
            self._went_wrong(inode, error)
            raise Changed("the object has gone", key=inode.key) from error
        if not inode.attached:
            raise FileSystemError(errno.ESTALE)

    def _begin_writing(
        self, file: FileHandle, flags: int, target: Target, base: Version | None
    ) -> None:
        inode, opened = file.inode, file.opened
        completed = partial(self._completed, inode, opened)
        writer = opened.writer = self._modes.open(target, base, completed)
        self._written.add(inode)
        inode.size = writer.size
        if base is None:
            inode.mtime = self._now()
        self._take_over(file, flags)

    def _take_over(self, file: FileHandle, flags: int) -> None:
        file.writable = flags & os.O_ACCMODE != os.O_RDONLY
        file.append = bool(flags & os.O_APPEND)
        opened = file.opened
        opened.owner = file
        opened.flushed = False

    # Bytes

    async def write(self, handle: int, offset: int, data: Buffer) -> int:
        """Take `data`; see Writer.write for what is refused."""
        file = self._files[handle]
        opened, inode = file.opened, file.inode
        writer = opened.writer
        if writer is None or (opened.owner is not file and not writer.shared):
            raise FileSystemError(errno.EBUSY)
        try:
            size = await writer.write(None if file.append else offset, data)
        except FileSystemError as error:
            if error.errno == errno.EINVAL:
                self._warn(file, offset)
            self._look_at(inode, writer)
            raise
        except StoreError:
            self._look_at(inode, writer)
            raise
        opened.flushed = False
        if writer.target.mtime_ns is not None:
            writer.target.mtime_ns = None
        inode.size = writer.size
        inode.mtime = self._now()
        return size

    def _warn(self, file: FileHandle, offset: int) -> None:
        if not file.warned:
            file.warned = True
            log.warning(
                "refused to write %r at offset %d, which is not its end (%d): mount with temp_dir "
                "for random writes",
                file.inode.key,
                offset,
                file.inode.size,
            )

    async def flush(self, handle: int) -> None:
        """A descriptor of the handle is closed: return when its bytes are in the bucket.

        With sync_upload=false that goes on by itself.
        """
        file = self._files[handle]
        opened = file.opened
        writer = opened.writer
        if writer is None or (opened.owner is not file and not (file.writable and writer.shared)):
            return
        opened.flushed = True
        wait = self._writes.sync_upload
        await self._save(file.inode, writer, wait=wait)
        if not wait and writer.dirty:
            self._writing.leave(partial(self._save_later, file.inode, writer))

    async def fsync(self, handle: int) -> None:
        """Return when all bytes of the file so far are in the bucket."""
        file = self._files[handle]
        writer = file.opened.writer
        if writer is not None:
            await self._save(file.inode, writer, wait=not self._writes.ignore_fsync)

    async def _save(self, inode: Inode, writer: Writer, *, wait: bool) -> None:
        try:
            if wait:
                await writer.complete()
            else:
                if writer.failure is not None:
                    raise writer.failure
                await writer.acknowledge()
        finally:
            self._look_at(inode, writer)

    async def _save_later(self, inode: Inode, writer: Writer) -> None:
        """Complete though nobody waits for it."""
        try:
            await self._save(inode, writer, wait=True)
        except (StoreError, FileSystemError, OSError) as error:
            log.error("%r could not be saved: %s", writer.target.key, error)
            self._metrics.count("lost_files")

    async def release(self, handle: int) -> None:
        """End a handle; the last that could write brings the rest into the bucket."""
        file = self._files[handle]
        opened, inode = file.opened, file.inode
        writer = opened.writer
        # Of a file without a name the writer has the only bytes, also for those who just read them.
        last = writer is not None and not any(
            other.writable or other is opened.owner or not inode.attached
            for other in opened.handles
            if other is not file
        )
        if writer is None or not last or opened.finished is not None:
            if opened.owner is file:
                opened.owner = None
            self.close(handle)
            return
        opened.finished = trio.Event()
        opened.owner = None
        self.close(handle)
        finish = partial(self._finish, inode, opened, writer)
        if writer.dirty and writer.failure is None:
            self._writing.leave(finish)  # nobody waits for a RELEASE, and it holds a handler
        else:
            await finish()

    async def _finish(self, inode: Inode, opened: OpenFile, writer: Writer) -> None:
        """Bring what a writer without handles has left into the bucket, and end it."""
        try:
            if writer.dirty and writer.failure is None:
                await self._save_later(inode, writer)
        finally:
            try:
                # Who began to read meanwhile has nothing else where the bytes are not the name's.
                if inode.attached or not opened.handles:
                    try:
                        with trio.CancelScope(shield=True):
                            await writer.close()
                    finally:
                        opened.writer = None
                        self._written.discard(inode)
            finally:  # whatever a local disk says to that, others wait for it
                finished = opened.finished
                assert finished is not None
                opened.finished = None
                finished.set()
                self._let_go(inode, opened)

    # Attributes

    async def set_size(self, number: int, size: int, handle: int | None) -> Inode:
        """Cut or extend a file to `size` bytes; by name it is in the bucket when this returns."""
        inode = self._inode(number)
        if isinstance(inode, Directory):
            raise FileSystemError(errno.EISDIR)
        file = self._files.get(handle) if handle is not None else None
        if file is not None and file.opened.writer is not None:
            if file.opened.owner is not file and not file.opened.writer.shared:
                raise FileSystemError(errno.EBUSY)
            await self._truncate(inode, file.opened.writer, size)
            return inode
        if writer_of(inode) is None:
            await self.attributes(number)
            if size == inode.size:
                return inode
        temporary = await self.open_for(number, os.O_WRONLY | (0 if size else os.O_TRUNC))
        try:
            file = self._files[temporary]
            writer = file.opened.writer
            assert writer is not None
            await self._truncate(inode, writer, size)
            await self._save(inode, writer, wait=True)
        finally:
            await self.release(temporary)
        return inode

    async def _truncate(self, inode: Inode, writer: Writer, size: int) -> None:
        await self._end_pushes(inode)
        try:
            await writer.truncate(size)
        except FileSystemError as error:
            if error.errno == errno.EINVAL:
                log.warning(
                    "refused to cut or extend %r to %d bytes: mount with temp_dir for that",
                    writer.target.key,
                    size,
                )
            raise
        finally:
            self._look_at(inode, writer)
            inode.size = writer.size
        inode.mtime = self._now()

    async def set_mtime(self, number: int, mtime_ns: int) -> Inode:
        """Show another time: until the inode is forgotten, and in what is uploaded next."""
        inode = self._inode(number)
        inode.mtime = Chosen(mtime_ns)
        writer = writer_of(inode)
        if writer is not None and not isinstance(inode, Directory):
            writer.target.mtime_ns = mtime_ns
            if writer.dirty:
                return inode
        if self._writes.preserve_mtime and not isinstance(inode, Directory | Symlink):
            async with self._moves.change(inode):
                await self._keep_mtime(inode, mtime_ns)
        return inode

    async def _keep_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """Write a time to the object that is there."""
        async with AsyncExitStack() as stack:
            await self._hold_still(inode, stack)
            if not inode.attached:
                return
            assert inode.parent is not None
            key = inode.key
            info = await self._client.head(key, full=True)
            if inode.etag not in ("", info.etag):
                raise Changed("the object was replaced", key=key)
            reply = await copy_object(self._client, key, key, info, mtime_ns=mtime_ns)
            self._changes.note(inode.parent, inode.name)
            self._copied(inode, key, reply.etag)

    async def _hold_still(self, inode: Inode, stack: AsyncExitStack) -> Writer | None:
        """Complete a file and let nobody change it until `stack` is unwound; return its writer.

        Raises why it could not be completed.
        """
        writer, opened = writer_of(inode), inode.opened
        while isinstance(opened, OpenFile) and opened.finished is not None:
            await opened.finished.wait()
            opened = inode.opened
        if writer is not None and writer is writer_of(inode):
            await stack.enter_async_context(writer.still())
            return writer
        if writer is not None and writer.failure is not None and not inode.attached:
            raise writer.failure  # the name stands for what was there before
        return None

    # The end

    async def flush_all(self) -> None:
        """Complete what is not in the bucket, side by side; what fails is logged."""
        async with trio.open_nursery() as nursery:
            for inode in list(self._written):
                writer = writer_of(inode)
                if writer is not None and writer.dirty and writer.failure is None:
                    nursery.start_soon(self._save_later, inode, writer)

    @property
    def unsaved(self) -> list[bytes]:
        """Keys of files with bytes that are not in the bucket."""
        writers = [writer_of(inode) for inode in self._written]
        return [
            one.target.key
            for one in writers
            if one is not None and one.dirty and one.failure is None
        ]

    # Helpers

    def _completed(self, inode: Inode, opened: OpenFile, version: Version) -> None:
        """Take note of what our own writer has put in the bucket."""
        self._forget_version(opened)
        inode.etag = version.etag
        inode.deadline = 0.0  # size and ETag are known, but not yet the store's time
        if inode.attached and inode.parent is not None:
            self._changes.note(inode.parent, inode.name)

    def _copied(self, inode: Inode, key: bytes, etag: str) -> None:
        """Take note that the inode's bytes are another object by now, with the same bytes."""
        inode.etag = etag
        inode.deadline = 0.0
        opened = inode.opened
        if not isinstance(opened, OpenFile):
            return
        if opened.content is not None:
            opened.content.moved(key, etag)
        if opened.writer is not None:
            opened.writer.target.key = key
            base = opened.writer.base
            if base is not None:
                opened.writer.base = replace(base, etag=etag, type=ObjectType.NORMAL)

    def _look_at(self, inode: Inode, writer: Writer) -> None:
        """Give a failed writer's name back to what the bucket holds."""
        if writer.failure is None or not inode.attached or inode.parent is None:
            return
        parent = inode.parent
        self._changes.note(parent, inode.name)
        self.inodes.detach(inode)
        self._kernel.drop_name(parent.number, inode.name)
        self._kernel.drop_attributes(inode.number)

    async def _there(self, parent: Directory, name: bytes, *, sure: bool = False) -> Inode | None:
        """Return what a name stands for, None if nothing; `sure` asks the store in any case."""
        child = parent.children.get(name)
        if child is not None and self.fresh(child) and child in self.inodes:
            return child
        if child is None and not sure and not self._policy.kernel_absence:
            return None  # the kernel has just looked it up
        return await self._there_now(parent, name)

    def _exists(self, inode: Inode) -> FileSystemError:
        """Return EEXIST; an inode that the kernel does not look up after it is not kept."""
        self._unclaimed.add(inode)
        return FileSystemError(errno.EEXIST)

    def _check_name(self, parent: Directory, name: bytes, *, slash: bool = False) -> None:
        """Raise ENAMETOOLONG or EILSEQ; `slash`: of a directory, whose key ends in one."""
        if len(name) > NAME_MAX or len(parent.key) + len(name) + slash > KEY_MAX:
            raise FileSystemError(errno.ENAMETOOLONG)
        if not is_utf8(name):
            raise FileSystemError(errno.EILSEQ)

    def _now(self) -> Local:
        return Local(self._clock.wall() * 1_000_000_000)


def target_of(key: bytes, info: ObjectInfo) -> Target:
    """Return a target that keeps what the object carries besides its bytes and its time."""
    metadata = {name: value for name, value in info.metadata.items() if name != MTIME}
    return Target(
        key,
        metadata=metadata,
        content_type=info.content_type,
        storage_class=info.storage_class if info.storage_class != "Standard" else None,
    )
