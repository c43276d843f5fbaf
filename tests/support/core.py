"""The file system without FUSE: over a store in memory, on trio's mock clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from ossfs.reading.blocks import BLOCK, BlockPool
from ossfs.reading.content import Source
from ossfs.reading.reader import Reading, ReadingLimits
from ossfs.runtime.budget import Budget
from ossfs.runtime.metrics import Metrics
from ossfs.store.api import ListPage
from ossfs.store.client import StoreClient
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.runner import InlineRunner
from ossfs.tree.inodes import ROOT, Inode
from ossfs.vfs.filesystem import FileSystem, Policy

MIB = 1 << 20


class TrioClock:
    """runtime.clock.Clock on trio's (mock) time."""

    def monotonic(self) -> float:
        return trio.current_time()

    def wall(self) -> float:
        return 1_700_000_000.0 + trio.current_time()


class RecordingKernel:
    """Remembers the hints it is given."""

    def __init__(self) -> None:
        self.dropped_names: list[tuple[int, bytes]] = []
        self.dropped_attributes: list[int] = []

    def drop_name(self, parent: int, name: bytes) -> None:
        self.dropped_names.append((parent, name))

    def drop_attributes(self, inode: int) -> None:
        self.dropped_attributes.append(inode)


class SmallPages:
    """A client whose listings come in pages of `size`; implements vfs.filesystem.Lister."""

    def __init__(self, client: StoreClient, size: int) -> None:
        self.head = client.head
        self._client = client
        self._size = size

    async def list_page(self, prefix: bytes, *, max_keys: int = 1_000, **position: Any) -> ListPage:
        return await self._client.list_page(prefix, max_keys=min(max_keys, self._size), **position)


class Core:
    """One file system and everything around it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        memory: int,
        chunk: int,
        attr_timeout: float,
        prefix: bytes,
        page: int,
        gate: Callable[[str, bytes], Awaitable[None]] | None,
    ) -> None:
        self.bucket = MemoryStore()
        self.store = FaultyStore(self.bucket, monotonic=trio.current_time)
        runner = InlineRunner(gate) if gate is not None else InlineRunner()
        self.client = StoreClient(self.store, request_timeout=30, runner=runner)
        self.budget = Budget(memory)
        self.source = Source(self.client, BlockPool(self.budget), nursery)
        limits = ReadingLimits(chunk=chunk, per_file=8, total=32)
        self.reading = Reading(self.source, limits, trio.current_time)
        self.budget.add_reclaimer(self.reading.reclaim)
        self.kernel = RecordingKernel()
        self.metrics = Metrics()
        self.fs = FileSystem(
            SmallPages(self.client, page),
            self.reading,
            prefix=prefix,
            policy=Policy(attr_timeout=attr_timeout),
            clock=TrioClock(),
            budget=self.budget,
            metrics=self.metrics,
            kernel=self.kernel,
            nursery=nursery,
        )

    def put(self, key: bytes, data: bytes) -> None:
        """Change the bucket behind the file system's back."""
        self.bucket.put(key, [data], deadline=time.monotonic() + 60)

    def delete(self, key: bytes) -> None:
        self.bucket.delete(key, deadline=time.monotonic() + 60)

    def requests(self) -> list[str]:
        """Return the operations the store has seen, and forget them."""
        seen = [call.op for call in self.store.calls]
        self.store.calls.clear()
        return seen

    async def walk(self, path: bytes) -> Inode:
        """Look a path up component by component."""
        number = ROOT
        for name in path.split(b"/"):
            inode = await self.fs.lookup(number, name)
            number = inode.number
        return inode

    async def listing(self, number: int, handle: int | None = None, at: int = 0) -> list[Any]:
        """Return [(name, inode, next cookie)] of a directory, without `.` and `..`."""
        own = handle is None
        opened = self.fs.open_directory(number) if handle is None else handle
        found: list[Any] = []
        while True:
            before = at

            def emit(name: bytes, inode: Inode, cookie: int) -> bool:
                nonlocal at
                at = cookie
                if name not in (b".", b".."):
                    found.append((name, inode, cookie))
                return True

            await self.fs.read_directory(opened, at, emit)
            if at == before:
                break
        if own:
            self.fs.close_directory(opened)
        return found

    async def contents(self, path: bytes) -> bytes:
        """Open, read whole and close a file."""
        handle = self.fs.open
        number = (await self.walk(path)).number
        opened = await handle(number)
        data = b""
        while piece := bytes(await self.fs.read(opened, len(data), BLOCK)):
            data += piece
        self.fs.close(opened)
        return data

    def forget_everything(self) -> None:
        """Take back every lookup, as the kernel does when it drops its caches."""
        self.fs.sweep()
        self.fs.forget([(inode.number, inode.lookups) for inode in list(self.fs.inodes)])


@asynccontextmanager
async def core(
    *,
    memory: int = 256 * MIB,
    chunk: int = 8 * MIB,
    attr_timeout: float = 60.0,
    prefix: bytes = b"",
    page: int = 1_000,
    gate: Callable[[str, bytes], Awaitable[None]] | None = None,
) -> AsyncIterator[Core]:
    async with trio.open_nursery() as nursery:
        yield Core(
            nursery,
            memory=memory,
            chunk=chunk,
            attr_timeout=attr_timeout,
            prefix=prefix,
            page=page,
            gate=gate,
        )
        nursery.cancel_scope.cancel()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a clock that jumps whenever all tasks wait."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
