"""Inodes: what the kernel holds numbers of, and the names they hang from.

The key of an object is derived by walking up, so a directory's name is held once and a renamed
directory is moved in one step. An `Inode` never changes the version (ETag) it stands for but by
what this mount writes: an object that changed elsewhere is a new inode under the same name, and
the old one lives on, detached, for the handles and the kernel pages it has. Directories are
their name; they are refreshed in place.

Invariants:
- every inode that the kernel knows (lookups > 0) or somebody holds open is in the table;
- an inode leaves the table when it has no lookups, no openers and no children, and takes
  its name with it, so after the kernel has dropped its caches only the root is left, and what
  max_inode_cache_count keeps;
- `parent.children[name] is inode` exactly while the inode is attached.

An inode's number (st_ino) is made of its parent's, its name and its version, so that it
is the same after the kernel has forgotten the inode and looks it up again: what backup
programs recognise files by. Another version has another number, so nothing that is still
on its way to the kernel for one can reach the other.

All on the trio loop, nothing awaits. At a million files an inode costs less than 450
bytes (bench/tree.py): slots, shared deadlines, an ETag of 32 hex digits as 16 bytes.
"""

from __future__ import annotations

from binascii import unhexlify
from collections import OrderedDict
from collections.abc import Iterator

from fastcrc.crc64 import xz

from ossfs.tree.absences import Absences

ROOT = 1
"""FUSE_ROOT_ID."""


class Local(int):
    """A file's time by our own clock, in nanoseconds, shown until the store has told its own."""

    __slots__ = ()


class Chosen(int):
    """A file's time as utimens set it, in nanoseconds: shown whatever the store says."""

    __slots__ = ()


class Inode:
    """A file: one version of one object."""

    __slots__ = (
        "_etag",
        "deadline",
        "lookups",
        "mtime",
        "name",
        "number",
        "opened",
        "parent",
        "served",
        "size",
    )

    def __init__(self, number: int, parent: Directory | None, name: bytes) -> None:
        self.number = number
        self.parent = parent
        """The directory the name is in; kept when detached, for messages."""
        self.name = name
        self.size = 0
        self.mtime = 0
        """Seconds since the epoch as the store tells them, or Local or Chosen."""
        self.deadline = 0.0
        """When the attributes stop being fresh, on the monotonic clock."""
        self.lookups = 0
        """Lookups the kernel has not forgotten yet."""
        self.opened: object | None = None
        """What the vfs keeps for open handles; None while nobody has it open."""
        self.served = False
        """Bytes of this version went to the kernel, which may hold its pages."""
        self._etag: bytes | str = ""

    @property
    def etag(self) -> str:
        """The version; empty while only a listing of a symlink object has told of it."""
        etag = self._etag
        return etag.hex().upper() if isinstance(etag, bytes) else etag

    @etag.setter
    def etag(self, value: str) -> None:
        # OSS words an MD5 ETag as 32 upper-case hex digits: half the memory as bytes.
        if len(value) == 32 and value.isupper():
            try:
                self._etag = unhexlify(value)
                return
            except ValueError:
                pass  # upper case, but not hex: kept as it is below
        self._etag = value

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since the epoch."""
        mtime = self.mtime
        return mtime * 1_000_000_000 if type(mtime) is int else int(mtime)

    @property
    def attached(self) -> bool:
        """The inode is what its name stands for."""
        return self.parent is None or self.parent.children.get(self.name) is self

    @property
    def key(self) -> bytes:
        """The object's key; of a directory with its trailing slash."""
        parts: list[bytes] = [self.name]
        node = self.parent
        while node is not None:
            parts.append(node.name)
            node = node.parent
        # The root's name is the mounted prefix, slash included, or nothing.
        head = parts.pop() if self.parent is not None else b""
        return head + b"/".join(reversed(parts))


class Symlink(Inode):
    """A symlink object, followed: size and ETag are its target's, learned by full HEAD only."""

    __slots__ = ()


class Directory(Inode):
    """A directory: a common prefix of keys, with or without a marker object."""

    __slots__ = ("children", "listings", "marked")

    def __init__(self, number: int, parent: Directory | None, name: bytes) -> None:
        super().__init__(number, parent, name)
        self.children: dict[bytes, Inode] = {}
        self.marked = False
        """Known to have a marker object, so it stays when its last name goes."""
        self.listings = 0
        """Open handles."""

    def at(self, path: bytes) -> Inode | None:
        """Return the inode that hangs at a relative path, if there is one."""
        node: Inode | None = self
        for name in path.split(b"/"):
            node = node.children.get(name) if isinstance(node, Directory) else None
        return node

    @property
    def key(self) -> bytes:
        if self.parent is None:
            return self.name
        return super().key + b"/"


class InodeTable:
    """Every live inode by number."""

    def __init__(self, prefix: bytes, absences: Absences | None = None) -> None:
        """`prefix` is the mounted part of the bucket with its trailing slash, or empty.

        Names that get an inode are taken out of `absences`.
        """
        self._absences = absences
        self.root = Directory(ROOT, None, prefix)
        self._inodes: dict[int, Inode] = {ROOT: self.root}
        self._kept: OrderedDict[Inode, None] = OrderedDict()
        self.kept_most = 0
        """max_inode_cache_count: how many inodes stay that nobody needs."""

    def __len__(self) -> int:
        return len(self._inodes)

    def __contains__(self, inode: Inode) -> bool:
        return self._inodes.get(inode.number) is inode

    def __getitem__(self, number: int) -> Inode:
        """Return the inode; KeyError when the kernel names one that it has forgotten."""
        return self._inodes[number]

    @property
    def kept(self) -> int:
        """Number of inodes that the kernel has forgotten and that are kept."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._inodes.values())

    def add(self, kind: type[Inode], parent: Directory, name: bytes, version: str = "") -> Inode:
        """Make a new inode the one that `name` in `parent` stands for."""
        # 60 bits: Python spends no more on them than on 31. The lowest numbers are the kernel's
        # own and the root's.
        if self._absences is not None and self._absences.remembered:
            self._absences.discard(parent.key + name)
        number = xz(version.encode(), xz(name, parent.number)) & 0x0FFF_FFFF_FFFF_FFFF | 0x100
        inodes = self._inodes
        while number in inodes:
            number += 1
        inode = inodes[number] = kind(number, parent, name)
        inode.etag = version
        children = parent.children
        old = children.get(name)
        children[name] = inode
        if old is not None:
            self._kept.pop(old, None)
            self.release(old)
        return inode

    def detach(self, inode: Inode) -> None:
        """Let the inode's name go; it lives on as long as somebody needs it."""
        parent = inode.parent
        if parent is not None and parent.children.get(inode.name) is inode:
            del parent.children[inode.name]
            self._kept.pop(inode, None)
            self.release(inode)
            self.release(parent)

    def move(self, inode: Inode, parent: Directory, name: bytes) -> None:
        """Make an attached inode, with all below it, the one that `name` in `parent` stands for."""
        left = inode.parent
        assert left is not None
        if self._absences is not None:
            self._absences.clear()
        if left.children.get(inode.name) is inode:
            del left.children[inode.name]
        replaced = parent.children.get(name)
        parent.children[name] = inode
        inode.parent, inode.name = parent, name
        if replaced is not None and replaced is not inode:
            self._kept.pop(replaced, None)
            self.release(replaced)
        self.release(left)

    def below(self, directory: Directory) -> Iterator[Inode]:
        """Yield every attached inode under a directory."""
        for child in directory.children.values():
            yield child
            if isinstance(child, Directory):
                yield from self.below(child)

    def looked_up(self, inode: Inode) -> None:
        """Count a lookup of the kernel; what it knows need not be kept for it."""
        inode.lookups += 1
        if self._kept:
            self._kept.pop(inode, None)

    def forget(self, number: int, lookups: int) -> None:
        """Take back `lookups` of the kernel's lookups."""
        inode = self._inodes.get(number)
        if inode is None or inode is self.root:
            return
        inode.lookups = max(0, inode.lookups - lookups)
        self.retire(inode)

    def retire(self, inode: Inode) -> None:
        """Release an inode, or keep it for a while if the user wants that."""
        if not self.kept_most or inode.lookups or inode is self.root or not inode.attached:
            self.release(inode)
            return
        self._kept[inode] = None
        self._kept.move_to_end(inode)
        while len(self._kept) > self.kept_most:
            self._let_go_oldest()

    def drop_kept(self, now: float) -> None:
        """Let those go that were kept longest and are no longer fresh, or are too many by now."""
        while self._kept and (
            len(self._kept) > self.kept_most or next(iter(self._kept)).deadline <= now
        ):
            self._let_go_oldest()

    def _let_go_oldest(self) -> None:
        oldest, _ = self._kept.popitem(last=False)
        self.release(oldest)

    def release(self, inode: Inode) -> None:
        """Drop the inode from the table if nobody needs it, then its parent likewise."""
        node: Inode | None = inode
        while (
            node is not None
            and node is not self.root
            and not node.lookups
            and node.opened is None
            and node not in self._kept
            and not (isinstance(node, Directory) and (node.children or node.listings))
        ):
            if self._inodes.get(node.number) is not node:
                return  # it has gone already; the number may be another's by now
            del self._inodes[node.number]
            parent = node.parent
            if parent is None or parent.children.get(node.name) is not node:
                return
            del parent.children[node.name]
            node = parent
