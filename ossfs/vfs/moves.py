"""Names that are being renamed or removed, and what changes there: one after the other.

A rename copies and then deletes, key by key where it is a directory's. What is made, removed or
opened for writing below the name meanwhile would stay behind under the old key, come back under the
new one, or be deleted with what was copied. The kernel does not keep them apart: it locks only the
directories around a name, and those not for an open. So such changes wait for the end of that, and
a rename or removal waits for those that have begun.

What has begun never waits for a rename, so nothing waits in a circle: the kernel lets only one
name at a time change its directory. Waiting happens inside handlers, of which there is a bounded
number: beyond MOST_WAITING it is EBUSY. On the trio loop; nothing awaits between a test and
its change.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.tree.inodes import Inode

MOST_WAITING = 16
"""Calls that wait at once; handlers are few, and others need them."""


class Moves:
    """All names of a mount that are on their way, to another or to their end."""

    def __init__(self) -> None:
        self._moving: dict[Inode, trio.Event] = {}
        """Each with the event of its end."""
        self._begun: set[Inode] = set()
        """Those of them at and below which nothing else changes any more."""
        self._changing: Counter[Inode] = Counter()
        """Changes under way, by where: a directory of names, or a file that is opened."""
        self._changed = trio.Event()
        self._waiting = 0

    @asynccontextmanager
    async def change(self, *places: Inode) -> AsyncIterator[None]:
        """Change names in directories, or begin to write files, once they stay where they are."""
        while (end := self._in_the_way(places)) is not None:
            await self._wait(end)
        self._changing.update(places)
        try:
            yield
        finally:
            for place in places:
                self._changing[place] -= 1
                if not self._changing[place]:
                    del self._changing[place]
            self._changed.set()
            self._changed = trio.Event()

    @asynccontextmanager
    async def move(self, inode: Inode) -> AsyncIterator[None]:
        """Rename or remove a file or directory, once all changes at and below it are over."""
        while (other := self._moving.get(inode)) is not None:
            await other.wait()
        end = self._moving[inode] = trio.Event()
        try:
            while any(leads_through(place, inode) for place in self._changing):
                await self._changed.wait()
            self._begun.add(inode)
            yield
        finally:
            self._begun.discard(inode)
            del self._moving[inode]
            end.set()

    def moving(self, inode: Inode) -> bool:
        """Say whether the key of an inode may go before its name does."""
        return any(leads_through(inode, begun) for begun in self._begun)

    async def passed(self, inode: Inode) -> None:
        """Wait until that is over."""
        while self.moving(inode):
            begun = next(one for one in self._begun if leads_through(inode, one))
            await self._wait(self._moving[begun])

    async def _wait(self, end: trio.Event) -> None:
        if self._waiting >= MOST_WAITING:
            raise FileSystemError(errno.EBUSY)
        self._waiting += 1
        try:
            await end.wait()
        finally:
            self._waiting -= 1

    def _in_the_way(self, places: Iterable[Inode]) -> trio.Event | None:
        for moving, end in self._moving.items():
            if any(leads_through(place, moving) for place in places):
                return end
        return None


def leads_through(inode: Inode, other: Inode) -> bool:
    """Say whether an inode is another one, or its path leads through that."""
    node: Inode | None = inode
    while node is not None and node is not other and node.attached:
        node = node.parent
    return node is other
