"""pyfuse3's handlers: translate, nothing else.

pyfuse3 ends the whole mount when a handler raises anything but FUSEError, so every
handler goes through `_guarded`, the one place that turns exceptions into errno. A READ
reply is sent right after the handler returns, before any other task runs: that is what
lets `read` return memory of a block that is free for reuse.

All three of pyfuse3's cache defaults are set explicitly here (entry and attribute
time-outs would be 300 s). Pages may always be kept at open: an inode is one version of
an object, a changed object is another inode.
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
from ossfs.runtime.metrics import Metrics
from ossfs.store.errors import StoreError, errno_of
from ossfs.tree.inodes import Directory, Inode
from ossfs.tree.names import NAME_MAX
from ossfs.vfs.filesystem import FileSystem, FileSystemError

log = logging.getLogger(__name__)

BLOCK_SIZE = 4096
"""st_blksize: what `stat` shows; tools that size buffers by it do better with their own."""
CAPACITY = 1 << 50
"""Bytes that statfs shows: a bucket has no end, and `df` needs a number (1 PiB)."""

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


def _guarded(
    handler: Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """Let nothing but FUSEError out of a handler."""
    name = handler.__name__
    on_handle = name in ("open", "read")

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
        except Exception:
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
        filesystem: FileSystem,
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
            missing.entry_timeout = self.presentation.negative_timeout
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
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        # Symlink objects are followed, so nothing here is a symbolic link.
        raise FUSEError(errno.EINVAL)

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
        # ENOSYS makes the kernel stop asking for good; else `ls -l` asks twice an entry.
        self.metrics.count("xattr_requests")
        raise FUSEError(errno.ENOSYS)

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

        def emit(name: bytes, inode: Inode, cookie: int) -> bool:
            nonlocal filled, deadline
            kind = type(inode)
            if kind is filled and kind is not Directory and inode.deadline == deadline:
                shown.st_ino = cast(Any, inode.number)
                self._fill_version(shown, inode)
            else:
                self._fill(shown, inode, remaining(inode))
                filled, deadline = kind, inode.deadline
            return bool(reply(token, name, shown, cookie))

        await self.filesystem.read_directory(fh, start_id, emit)

    @_guarded
    async def releasedir(self, fh: int) -> None:
        self.filesystem.close_directory(fh)

    @_guarded
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise FUSEError(errno.EROFS)
        handle = await self.filesystem.open(inode, direct=bool(flags & os.O_DIRECT))
        return FileInfo(fh=handle, direct_io=False, keep_cache=True, nonseekable=False)

    @_guarded
    async def read(self, fh: int, off: int, size: int) -> bytes:
        # pyfuse3 takes any contiguous buffer; its stub says bytes.
        return cast(bytes, await self.filesystem.read(fh, off, size))

    @_guarded
    async def release(self, fh: int) -> None:
        self.filesystem.close(fh)

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
        shown.entry_timeout = remaining
        shown.attr_timeout = remaining
        if isinstance(inode, Directory):
            shown.st_mode = cast(Any, self._dir_mode)
            shown.st_size = 0
            shown.st_blocks = 0
            shown.st_atime_ns = shown.st_mtime_ns = shown.st_ctime_ns = self._dir_time
        else:
            shown.st_mode = cast(Any, self._file_mode)
            self._fill_version(shown, inode)

    def _fill_version(self, shown: EntryAttributes, inode: Inode) -> None:
        """Set what differs between two files of a page."""
        size = inode.size
        shown.st_size = size
        shown.st_blocks = (size + 511) >> 9
        time_ns = inode.mtime * 1_000_000_000
        shown.st_atime_ns = time_ns
        shown.st_mtime_ns = time_ns
        shown.st_ctime_ns = time_ns
