"""Names that change: directories, removal, links and renames.

A bucket knows neither directories nor renames. A directory is a marker object or the keys below
it; one whose last key we take away gets a marker, for only rmdir may end it. A rename is a copy
and a delete: the old name is given up only when the copy is whole, and what the new name stood
for is there until then.

Files that are open stay usable. A removed file's writer keeps its bytes, its readers what they
hold, small files whole. A renamed file is completed under its old name; its handles go on under
the new one.

On the trio loop; see vfs.filesystem for what holds between awaits. The kernel locks the directories
of a name that changes, so two changes of one name never meet here. What changes below a directory
waits while that is renamed (see vfs.moves); reading goes on.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import islice

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import MARK, ObjectInfo, ObjectType, PutOptions, PutReply
from ossfs.store.errors import Changed, Exists, NotFound, StoreError
from ossfs.tree.inodes import Chosen, Directory, Inode, Symlink
from ossfs.vfs.files import WritableFiles
from ossfs.vfs.filesystem import relative
from ossfs.vfs.moves import leads_through
from ossfs.vfs.opened import OpenFile, writer_of
from ossfs.vfs.xattrs import extended
from ossfs.writing.api import Writer, content_type_of
from ossfs.writing.copying import copy_object
from ossfs.writing.moving import MoveFailed, move_tree

log = logging.getLogger(__name__)

NOREPLACE = 1
"""RENAME_NOREPLACE of renameat2(2)."""
DIRECTORY_TYPE = "application/x-directory"
"""Content-Type of a marker object."""


class WritableFileSystem(WritableFiles):
    """The whole file system."""

    # Directories

    async def mkdir(self, parent: int, name: bytes) -> Inode:
        """Make a directory, which is a marker object; counted as one lookup."""
        directory = self._directory(parent)
        async with self._moves.change(directory):
            self._check_name(directory, name, slash=True)
            if (there := await self._there(directory, name)) is not None:
                raise self._exists(there)
            await self._mark(directory.key + name + b"/", new=True)
            made = self._adopt_directory(
                directory, name, self._clock.monotonic() + self._policy.attr_timeout
            )
            made.marked = True
            self.inodes.looked_up(made)
            self._changes.note(directory, name)
            return made

    async def rmdir(self, parent: int, name: bytes) -> None:
        """Remove a directory that holds nothing, here and in the bucket."""
        directory = self._directory(parent)
        async with self._moves.change(directory):
            child = await self._needed(directory, name)
            if not isinstance(child, Directory):
                raise FileSystemError(errno.ENOTDIR)
            await self._check_empty(child)
            await self._client.delete(child.key)
            self._detach(child)
            await self._keep_alive(directory)

    async def _check_empty(self, directory: Directory) -> None:
        if self._written_in(directory):
            raise FileSystemError(errno.ENOTEMPTY)
        page = await self._client.list_page(directory.key, delimiter=b"", max_keys=2)
        if any(entry.key != directory.key for entry in page.entries):
            raise FileSystemError(errno.ENOTEMPTY)

    async def _mark(self, key: bytes, *, new: bool) -> None:
        """Make a directory's marker; `new`: FileSystemError(EEXIST) if there is one."""
        mark = self._new_mark() if new else ""
        metadata = {MARK: mark} if mark else {}
        options = PutOptions(DIRECTORY_TYPE, metadata, forbid_overwrite=new)
        try:
            await self._client.put(key, [], options, expect=self._writing.expected(0, 0, options))
        except Exists:
            raise FileSystemError(errno.EEXIST) from None

    async def _keep_alive(self, directory: Directory) -> None:
        """Give a directory a marker when its last key has gone: only rmdir may end it.

        What this fails with is only logged: the change itself is done.
        """
        if directory.parent is None or directory.marked:
            return
        # What is still being written is not in the bucket, and what is stale may not be. A few will
        # do: of a directory that is removed name by name all are as fresh as the first.
        for child in islice(directory.children.values(), 10):
            if writer_of(child) is None and self.fresh(child):
                return
        try:
            page = await self._client.list_page(directory.key, delimiter=b"", max_keys=1)
            if not page.entries:
                await self._mark(directory.key, new=False)
                # Who listed the directory above meanwhile has not seen it.
                self._changes.note(directory.parent, directory.name)
            directory.marked = not page.entries or page.entries[0].key == directory.key
        except StoreError as error:
            log.warning("the empty directory %r may vanish: %s", directory.key, error)

    # Removal

    async def unlink(self, parent: int, name: bytes) -> None:
        """Remove a file; whoever has it open keeps what the module docstring says."""
        directory = self._directory(parent)
        async with self._moves.change(directory):
            child = await self._needed(directory, name)
            if isinstance(child, Directory):
                raise FileSystemError(errno.EISDIR)
            async with self._moves.move(child):
                await self._give_up(child)
                try:
                    await self._client.delete(child.key)
                except BaseException as error:
                    self._not_given_up(child, error)
                    raise
                self._detach(child)
            await self._keep_alive(directory)

    async def _give_up(self, inode: Inode) -> None:
        """Prepare an inode for the end of its object."""
        opened = inode.opened
        if not isinstance(opened, OpenFile):
            return
        if opened.writer is not None:
            await opened.writer.discard()
            if opened.writer is None or opened.writer.base is None:
                return  # the writer has all there is
        content = self._content(inode, opened)
        if content.size > BLOCK or not opened.handles:
            return
        try:
            await content.keep()
        except StoreError as error:
            log.info("%r is removed while it is open, and could not be kept: %s", inode.key, error)

    def _not_given_up(self, inode: Inode, error: BaseException) -> None:
        """The object is still there, but its writer has stopped: that must not pass unnoticed."""
        writer = writer_of(inode)
        if writer is not None:
            reason = error if isinstance(error, Exception) else FileSystemError(errno.EIO)
            writer.failure = writer.failure or reason
            self._look_at(inode, writer)

    def _detach(self, inode: Inode) -> None:
        """Take a name away here, also from what was found there meanwhile."""
        parent = inode.parent
        assert parent is not None
        self._changes.note(parent, inode.name)
        there = parent.children.get(inode.name)
        if isinstance(there, Directory):
            for child in list(there.children.values()):
                self._detach(child)
        if there is not None:
            self.inodes.detach(there)

    # Links

    async def symlink(self, parent: int, name: bytes, path: bytes) -> Inode:
        """Make a symlink object; `path` is relative and stays inside the mount."""
        if not self._policy.links:
            raise FileSystemError(errno.ENOTSUP)
        directory = self._directory(parent)
        async with self._moves.change(directory):
            self._check_name(directory, name)
            target = resolved(directory.key, self.inodes.root.key, path)
            if (there := await self._there(directory, name)) is not None:
                raise self._exists(there)
            await self._client.put_symlink(directory.key + name, target)
            self._changes.note(directory, name)
            asked = self._asked()
            info = ObjectInfo(0, int(self._clock.wall()), "")
            inode = self._link(directory, name, target, info, asked)
            self.inodes.looked_up(inode)
            return inode

    async def readlink(self, number: int) -> bytes:
        """Return the path that a symbolic link shows."""
        inode = self._inode(number)
        if not isinstance(inode, Symlink) or not self._policy.links or inode.parent is None:
            raise FileSystemError(errno.EINVAL)
        return relative(inode.parent.key, await self._client.get_symlink(inode.key))

    async def extended(self, number: int) -> Mapping[bytes, bytes]:
        """Return what the object of a file tells of itself; nothing for a directory."""
        inode = self._inode(number)
        if isinstance(inode, Directory) or not inode.attached:
            return {}
        try:
            return extended(await self._client.head(inode.key, full=True))
        except NotFound:
            return {}  # it is still being written

    # Renames

    async def rename(
        self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> None:
        """Give a file or directory another name, replacing what POSIX lets it replace."""
        if flags & ~NOREPLACE:
            raise FileSystemError(errno.EINVAL)
        source_parent, target_parent = self._directory(old_parent), self._directory(new_parent)
        async with self._moves.change(source_parent, target_parent):
            await self._rename(source_parent, old_name, target_parent, new_name, flags)

    async def _rename(
        self,
        source_parent: Directory,
        old_name: bytes,
        target_parent: Directory,
        new_name: bytes,
        flags: int,
    ) -> None:
        self._check_name(target_parent, new_name)
        source = await self._needed(source_parent, old_name)
        target = await self._there(target_parent, new_name, sure=bool(flags & NOREPLACE))
        if target is source:
            return
        if target is not None and flags & NOREPLACE:
            raise self._exists(target)
        if isinstance(source, Directory):
            await self._rename_directory(source, target_parent, new_name, target)
        else:
            if isinstance(target, Directory):
                raise FileSystemError(errno.EISDIR)
            mark = self._new_mark() if flags & NOREPLACE else ""
            await self._rename_file(source, target_parent, new_name, target, mark)
        await self._keep_alive(source_parent)

    async def _rename_file(
        self, source: Inode, parent: Directory, name: bytes, target: Inode | None, mark: str
    ) -> None:
        old, new = source.key, parent.key + name
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._moves.move(source))
            if target is not None:
                await stack.enter_async_context(self._moves.move(target))
            info = await self._describe(source, await self._hold_still(source, stack))
            if target is not None:
                await self._give_up(target)
            try:
                chosen = source.mtime if type(source.mtime) is Chosen else None
                reply = await copy_object(
                    self._client,
                    old,
                    new,
                    info,
                    mtime_ns=chosen,
                    exclusive_mark=mark,
                    content_type=type_after(old, new, info),
                    concurrency=self._writing.copying,
                )
            except BaseException as error:
                if target is not None:
                    self._not_given_up(target, error)
                if isinstance(error, Exists):
                    raise FileSystemError(errno.EEXIST) from None
                raise
            self._changes.note(parent, name)
            self._absences.discard(new)  # even if the old name cannot be deleted
            if target is not None:
                self._detach(target)
            etag = source.etag if isinstance(source, Symlink) else reply.etag
            if isinstance(source.opened, OpenFile) and source.opened.content is not None:
                source.opened.content.moved(new, etag)
            await self._client.delete(old)
            self._moved(source, parent, name)
            self._copied(source, new, etag)

    async def _describe(self, source: Inode, writer: Writer | None) -> ObjectInfo:
        """Ask what is to be renamed; a writer goes on only from the version it knows."""
        if isinstance(source, Symlink):  # a HEAD would describe its target, if there is one
            return ObjectInfo(0, source.mtime, source.etag, ObjectType.SYMLINK)
        info = await self._client.head(source.key, full=True)
        base = writer.base if writer is not None else None
        if (base.etag if base is not None else source.etag) not in ("", info.etag):
            # The inode's pages, and what its handles hold, are of the version that was.
            changed = Changed("the object was replaced", key=source.key)
            if writer is None:
                self._went_wrong(source, changed)
            raise changed
        return info

    async def _rename_directory(
        self, source: Directory, parent: Directory, name: bytes, target: Inode | None
    ) -> None:
        if not self._writes.rename_directories:
            raise FileSystemError(errno.ENOTSUP)
        if target is not None and not isinstance(target, Directory):
            raise FileSystemError(errno.ENOTDIR)
        if leads_through(parent, source):
            raise FileSystemError(errno.EINVAL)
        self._check_name(parent, name, slash=True)
        if target is not None:
            await self._check_empty(target)
        old, new = source.key, parent.key + name + b"/"
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._moves.move(source))
            for inode in self._written_in(source):
                await self._hold_still(inode, stack)

            def moved(old_key: bytes, new_key: bytes, reply: PutReply | None, etag: str) -> None:
                inode = source.at(old_key[len(old) :])
                if inode is None or inode.opened is None or reply is None:
                    return
                # Of another version, put there by somebody else, the handles have nothing.
                if inode.etag == etag:
                    self._copied(inode, new_key, reply.etag)

            try:
                moved_all = await move_tree(
                    self._client,
                    old,
                    new,
                    limit=self._writes.rename_limit,
                    concurrency=self._writes.rename_concurrency,
                    on_moved=moved,
                    pieces=self._writing.copying,
                )
            except MoveFailed as error:
                log.error("renaming %r to %r failed: %s", old, new, error)
                self._doubt(source)
                self._changes.note(parent, name)
                self._absences.clear()  # some of what was missing at the new names is there by now
                self._shared.clear()
                raise error.reason from None
            if not moved_all.moved:  # emptied elsewhere meanwhile
                await self._mark(new, new=False)
            if target is not None:
                self._detach(target)
            self._changes.note(parent, name)
            self._shared.clear()
            self._moved(source, parent, name)
            source.marked = False
            self._doubt(source)

    def _moved(self, source: Inode, parent: Directory, name: bytes) -> None:
        """Take note that what was one name's is another's."""
        left = source.parent
        assert left is not None
        self._changes.note(left, source.name)
        there = left.children.get(source.name)
        if there is not None and there is not source:
            self.inodes.detach(there)  # it was found there meanwhile, and is gone by now
        if source in self.inodes:  # though its old name may have been found to be gone already
            self.inodes.move(source, parent, name)

    def _doubt(self, directory: Directory) -> None:
        """Ask the store anew about everything below a directory."""
        for inode in self.inodes.below(directory):
            inode.deadline = 0.0

    # Helpers

    async def _needed(self, parent: Directory, name: bytes) -> Inode:
        found = await self._there(parent, name, sure=True)
        if found is None:
            raise FileSystemError(errno.ENOENT)
        return found

    def _written_in(self, directory: Directory) -> list[Inode]:
        """Return the files in a directory that are being written; a failed one has no name."""
        return [
            inode
            for inode in self._written
            if leads_through(inode, directory)
            and (writer := writer_of(inode)) is not None
            and writer.failure is None
        ]


def type_after(old: bytes, new: bytes, info: ObjectInfo) -> str | None:
    """Return the media type that an object's new name gives it, None where it keeps its own.

    One that its old name gave it, and nobody chose, is the new name's: programs write under a
    temporary name and rename.
    """
    by_name = content_type_of(new)
    return by_name if info.content_type in (None, content_type_of(old)) else None


def resolved(directory: bytes, root: bytes, path: bytes) -> bytes:
    """Return the key that a relative path from a directory names.

    FileSystemError(EINVAL) where it is absolute, or leads out of the mount (`root` is its prefix).
    """
    if path.startswith(b"/"):
        raise FileSystemError(errno.EINVAL)
    parts = directory[len(root) :].split(b"/")[:-1]
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise FileSystemError(errno.EINVAL)
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if not parts:
        raise FileSystemError(errno.EINVAL)
    return root + b"/".join(parts)
