"""pyfuse3's handlers: translate, nothing else.

pyfuse3 ends the whole mount when a handler raises anything but FUSEError, so every
handler goes through `_guarded`, the one place that turns exceptions into errno. A READ
reply is sent right after the handler returns, before any other task runs: that is what
lets `read` return memory of a block that is free for reuse.

All three of pyfuse3's cache defaults are set explicitly here (entry and attribute
time-outs would be 300 s). Pages may always be kept at open, unless the user wants them dropped: an
inode is one version of an object, a changed object is another inode.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError

from ossfs.fuse.handshake import NOTHING
from ossfs.fuse.plain import take_node
from ossfs.runtime.failure import FileSystemError
from ossfs.runtime.metrics import Metrics
from ossfs.store.errors import StoreError, errno_of
from ossfs.tree.inodes import Directory, Inode, Symlink
from ossfs.tree.names import NAME_MAX
from ossfs.vfs.names import WritableFileSystem
from ossfs.vfs.xattrs import PREFIX

log = logging.getLogger(__name__)

BLOCK_SIZE = 4096
"""st_blksize: what `stat` shows; tools that size buffers by it do better with their own."""
CAPACITY = 1 << 50
"""Bytes that statfs shows: a bucket has no end, and `df` needs a number (1 PiB)."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""What the disk under staged and spilled bytes may say."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Presentation:
    """How files look to their users."""

    uid: int
    gid: int
    file_mode: int
    """Permission bits of files, umask applied."""
    dir_mode: int
    negative_timeout: float
    """Seconds for which the kernel remembers a missing name."""
    read_only: bool = False
    links: bool = False
    """Symlink objects are symbolic links."""
    entry_timeout: float = -1.0
    """Seconds for which the kernel believes names; -1: while we do."""
    attr_timeout: float = -1.0
    """Seconds for which the kernel believes attributes; -1: while we do."""
    list_nodes: bool = True
    """Listed names become inodes of the kernel."""
    keep_cache: bool = True
    """Pages stay at open."""
    direct_io: bool = False
    """There are no pages."""
    xattrs: bool = False
    """Objects tell of themselves in extended attributes; costs two requests a listed entry."""


def _guarded(
    handler: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """Let nothing but FUSEError out of a handler."""
    name = handler.__name__
    on_handle = name in ("open", "read", "write", "flush", "fsync", "setattr")

    @functools.wraps(handler)
    async def guard(self: Operations, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except FileSystemError as error:
            raise FUSEError(error.errno) from None
        except StoreError as error:
            number = errno_of(error, open_handle=on_handle)
            self.metrics.count(f"errno_{errno.errorcode[number]}")
            if number not in (errno.ENOENT, errno.ESTALE):
                log.debug("%s failed: %s: %s", name, type(error).__name__, error)
            raise FUSEError(number) from None
        except trio.Cancelled:
            # The daemon ends: nobody who waits for us is left without an answer.
            raise FUSEError(errno.EIO) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                self.metrics.count("disk_errors")
                log.error("%s failed on the local disk: %s", name, error)
                raise FUSEError(error.errno) from None
            self.metrics.count("internal_errors")
            log.exception("internal error in %s; answering EIO", name)
            raise FUSEError(errno.EIO) from None
        except BaseExceptionGroup as group:
            # Cancelled in a nursery of its own; a KeyboardInterrupt is nobody's answer.
            _, others = group.split(trio.Cancelled)
            if others is not None:
                if not isinstance(others, Exception):
                    raise
                self.metrics.count("internal_errors")
                log.exception("internal error in %s; answering EIO", name)
            raise FUSEError(errno.EIO) from None

    # functools.wraps types its result as a callable object, which cannot be a method.
    return cast(Any, guard)  # type: ignore[no-any-return]


class Operations(pyfuse3.Operations):
    """The handlers of one mount."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self,
        filesystem: WritableFileSystem,
        presentation: Presentation,
        metrics: Metrics,
        on_nothing: Callable[[], None],
    ) -> None:
        """`on_nothing` is called when handshake.NOTHING is to be forgotten."""
        super().__init__()
        self.filesystem = filesystem
        self.presentation = presentation
        self.metrics = metrics
        self._on_nothing = on_nothing
        self._file_mode = stat.S_IFREG | presentation.file_mode
        self._dir_mode = stat.S_IFDIR | presentation.dir_mode
        self._dir_time = filesystem.mounted_at * 1_000_000_000

    @_guarded
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        try:
            inode = await self.filesystem.lookup(parent_inode, name)
        except FileSystemError as error:
            if error.errno != errno.ENOENT or not self.presentation.negative_timeout:
                raise
            missing = EntryAttributes()
            missing.st_ino = cast(Any, 0)
            missing.entry_timeout = self.filesystem.absent_for(
                parent_inode, name, self.presentation.negative_timeout
            )
            missing.attr_timeout = 0
            return missing
        return self._attributes(inode)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        # The one handler whose FUSEError pyfuse3 does not catch either.
        if inode_list == NOTHING:
            self._on_nothing()
            return
        try:
            self.filesystem.forget(inode_list)
        except Exception:
            self.metrics.count("internal_errors")
            log.exception("internal error in forget")

    @_guarded
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> EntryAttributes:
        return self._attributes(await self.filesystem.attributes(inode))

    @_guarded
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> EntryAttributes:
        # Modes and owners are the mount's: chmod and chown succeed without effect, or `cp -p` and
        # `tar` would fail.
        filesystem = self.filesystem
        if fields.update_size:
            await filesystem.set_size(inode, attr.st_size, fh)
        if fields.update_mtime:
            await filesystem.set_mtime(inode, attr.st_mtime_ns)
        return self._attributes(filesystem.known(inode))

    @_guarded
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return await self.filesystem.readlink(inode)

    @_guarded
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        return self._attributes(await self.filesystem.symlink(parent_inode, name, target))

    @_guarded
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @_guarded
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        if not stat.S_ISREG(mode):
            raise FUSEError(errno.EPERM)
        inode, handle = await self.filesystem.create(
            parent_inode, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL
        )
        try:
            await self.filesystem.flush(handle)
        except BaseException:
            self.filesystem.forget([(inode.number, 1)])  # the kernel does not hear of it
            raise
        finally:
            await self.filesystem.release(handle)
        return self._attributes(inode)

    @_guarded
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> EntryAttributes:
        return self._attributes(await self.filesystem.mkdir(parent_inode, name))

    @_guarded
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self.filesystem.unlink(parent_inode, name)

    @_guarded
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self.filesystem.rmdir(parent_inode, name)

    @_guarded
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        await self.filesystem.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @_guarded
    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        return True  # default_permissions: the kernel checks modes itself

    @_guarded
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_SIZE
        data.f_blocks = data.f_bfree = data.f_bavail = CAPACITY // BLOCK_SIZE
        data.f_files = data.f_ffree = data.f_favail = 1 << 40
        data.f_namemax = NAME_MAX
        return data

    @_guarded
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        # ENOSYS makes the kernel stop asking for good; else `ls -l` asks twice an entry, and every
        # write once.
        self.metrics.count("xattr_requests")
        if not self.presentation.xattrs:
            raise FUSEError(errno.ENOSYS)
        if not name.startswith(PREFIX):
            raise FUSEError(pyfuse3.ENOATTR)
        try:
            return (await self.filesystem.extended(inode))[name]
        except KeyError:
            raise FUSEError(pyfuse3.ENOATTR) from None

    @_guarded
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        if not self.presentation.xattrs:
            raise FUSEError(errno.ENOSYS)
        return sorted(await self.filesystem.extended(inode))

    @_guarded
    async def setxattr(
        self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        raise FUSEError(errno.EOPNOTSUPP if self.presentation.xattrs else errno.ENOSYS)

    @_guarded
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        raise FUSEError(errno.EOPNOTSUPP if self.presentation.xattrs else errno.ENOSYS)

    @_guarded
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self.filesystem.open_directory(inode)

    @_guarded
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        # One object serves the whole page (readdir_reply copies what it is given), and what the
        # entries of a page have in common is set once: at 100,000 entries each setter counts.
        shown = EntryAttributes()
        filled: type[Inode] | None = None
        deadline = -1.0
        reply = pyfuse3.readdir_reply
        remaining = self.filesystem.remaining
        nodes = self.presentation.list_nodes

        def emit(name: bytes, inode: Inode, cookie: int) -> bool:
            nonlocal filled, deadline
            kind = type(inode)
            idle = inode.opened is None  # what is written lasts for no time, whatever its deadline
            if kind is filled and idle and kind is not Directory and inode.deadline == deadline:
                shown.st_ino = cast(Any, inode.number)
                self._fill_version(shown, inode)
            else:
                self._fill(shown, inode, remaining(inode))
                filled, deadline = kind if idle else None, inode.deadline
            if not nodes:
                take_node(shown)
            return bool(reply(token, name, shown, cookie))

        await self.filesystem.read_directory(fh, start_id, emit)

    @_guarded
    async def releasedir(self, fh: int) -> None:
        self.filesystem.close_directory(fh)

    @_guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        handle = await self.filesystem.open_for(inode, flags, direct=self._passes_by(flags))
        return self._info(handle)

    @_guarded
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        inode, handle = await self.filesystem.create(
            parent_inode, name, flags, direct=self._passes_by(flags)
        )
        return self._info(handle), self._attributes(inode)

    @_guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer; its stub says bytes.
        return cast(bytes, await self.filesystem.read(fh, off, size))

    @_guarded
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self.filesystem.write(fh, off, buf)

    @_guarded
    async def flush(self, fh: int) -> None:
        if self.presentation.read_only:
            raise FUSEError(errno.ENOSYS)  # then the kernel does not ask at every close
        await self.filesystem.flush(fh)

    @_guarded
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.filesystem.fsync(fh)

    @_guarded
    async def release(self, fh: int) -> None:
        await self.filesystem.release(fh)

    def _passes_by(self, flags: int) -> bool:
        """Say whether what a handle reads passes the kernel's page cache by."""
        return self.presentation.direct_io or bool(flags & os.O_DIRECT)

    def _info(self, handle: int) -> FileInfo:
        presentation = self.presentation
        return FileInfo(
            fh=handle,
            direct_io=presentation.direct_io,
            keep_cache=presentation.keep_cache,
            nonseekable=False,
        )

    def _attributes(self, inode: Inode) -> EntryAttributes:
        shown = EntryAttributes()
        self._fill(shown, inode, self.filesystem.remaining(inode))
        return shown

    def _fill(self, shown: EntryAttributes, inode: Inode, remaining: float) -> None:
        presentation = self.presentation
        shown.st_ino = cast(Any, inode.number)
        shown.st_nlink = 1  # of a directory: what find takes as "subdirectories not counted"
        shown.st_uid = presentation.uid
        shown.st_gid = presentation.gid
        shown.st_blksize = BLOCK_SIZE
        entry, attr = presentation.entry_timeout, presentation.attr_timeout
        shown.entry_timeout = remaining if entry < 0 else entry
        # What is being written changes size and time without the kernel's being told.
        changing = remaining == 0.0 and inode.opened is not None
        shown.attr_timeout = remaining if attr < 0 or changing else attr
        if isinstance(inode, Directory):
            shown.st_mode = cast(Any, self._dir_mode)
            shown.st_size = 0
            shown.st_blocks = 0
            shown.st_atime_ns = shown.st_mtime_ns = shown.st_ctime_ns = self._dir_time
        else:
            link = self.presentation.links and isinstance(inode, Symlink)
            shown.st_mode = cast(Any, stat.S_IFLNK | 0o777 if link else self._file_mode)
            self._fill_version(shown, inode)

    def _fill_version(self, shown: EntryAttributes, inode: Inode) -> None:
        """Set what differs between two files of a page."""
        size = inode.size
        shown.st_size = size
        shown.st_blocks = (size + 511) >> 9
        time_ns = inode.mtime_ns
        shown.st_atime_ns = time_ns
        shown.st_mtime_ns = time_ns
        shown.st_ctime_ns = time_ns
