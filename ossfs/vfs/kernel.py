"""What the file system tells the kernel's caches, as a protocol, so that it needs no FUSE."""

from __future__ import annotations

from typing import Protocol


class KernelCaches(Protocol):
    """Queued hints: none of these waits, any may be dropped when there are too many."""

    def drop_name(self, parent: int, name: bytes) -> None:
        """Make the kernel look `name` in directory `parent` up again."""
        ...

    def drop_attributes(self, inode: int) -> None:
        """Make the kernel ask for the attributes of `inode` again; its pages stay."""
        ...
