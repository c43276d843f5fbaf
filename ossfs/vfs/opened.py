"""What the file system keeps of an inode while somebody has it open."""

from __future__ import annotations

import trio

from ossfs.reading.content import Content
from ossfs.reading.reader import Reader
from ossfs.tree.inodes import Directory, Inode
from ossfs.tree.listing import Listing
from ossfs.tree.shared import Walk
from ossfs.writing.api import Writer


class OpenFile:
    """An inode's open state, shared by its handles; `inode.opened` while it is needed."""

    __slots__ = ("content", "finished", "flushed", "handles", "owner", "writer")

    def __init__(self, content: Content | None = None) -> None:
        self.content = content
        """The version in the bucket that is read; None until somebody reads it."""
        self.handles: set[FileHandle] = set()
        self.writer: Writer | None = None
        self.owner: FileHandle | None = None
        """The handle that may write, where only one may."""
        self.flushed = False
        """A descriptor of the owner was closed after its last write."""
        self.finished: trio.Event | None = None
        """Set when the writer, which no handle has any more, is through."""


class FileHandle:
    """One open file."""

    __slots__ = ("append", "direct", "inode", "opened", "reader", "warned", "writable")

    def __init__(self, inode: Inode, opened: OpenFile, *, direct: bool) -> None:
        self.inode = inode
        self.opened = opened
        self.direct = direct
        self.reader: Reader | None = None
        self.writable = False
        self.append = False
        self.warned = False


class DirectoryHandle:
    """One open directory."""

    __slots__ = ("bounds", "inode", "listing", "started", "walk")

    def __init__(self, inode: Directory, listing: Listing) -> None:
        self.inode = inode
        self.listing = listing
        self.started = False
        self.walk: Walk | None = None
        """The pages it shares with others."""
        self.bounds: dict[str, bytes] = {}
        """Of each page's token the last key before it."""


def writer_of(inode: Inode) -> Writer | None:
    """Return who writes the inode's file, if anybody does."""
    opened = inode.opened
    return opened.writer if isinstance(opened, OpenFile) else None
