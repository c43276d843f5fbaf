"""The file system without FUSE: over a store in memory, on trio's mock clock."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
import trio.testing

from ossfs.reading.content import Source
from ossfs.reading.reader import Reading, ReadingLimits
from ossfs.runtime.blocks import BLOCK, BlockPool
from ossfs.runtime.budget import Budget
from ossfs.runtime.failure import FileSystemError
from ossfs.runtime.metrics import Metrics
from ossfs.store.api import Capabilities, ListPage
from ossfs.store.client import StoreClient
from ossfs.store.errors import NotFound
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.runner import InlineRunner
from ossfs.tree.inodes import ROOT, Inode
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy
from ossfs.vfs.names import WritableFileSystem
from ossfs.writing.context import Writing, WritingLimits
from ossfs.writing.memory import Memory
from ossfs.writing.modes import Modes
from ossfs.writing.spill import Spill
from ossfs.writing.staging import Staging

MIB = 1 << 20
SCALED = Capabilities(minimum_part=100, maximum_copy_part=MIB)
"""OSS's limits, scaled down to what a test can move."""


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
        self.get_symlink = client.get_symlink
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
        capabilities: Capabilities,
        part: int,
        quota: int,
        spill: Path,
        stage: Path | None,
        appendable: bool,
        switch_up_to: int,
        policy: Policy,
        writes: WritePolicy,
    ) -> None:
        self.bucket = MemoryStore(capabilities=capabilities)
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
        self.spill = Spill(str(spill), 64 * MIB)
        self.memory = Memory(
            self.source.pool, self.budget, self.spill, quota=quota or memory // 2, most_waiting=16
        )
        limits_of_writing = WritingLimits(part=part, concurrency=8, copy_concurrency=8)
        self.writing = Writing(
            self.client, self.memory, limits_of_writing, nursery, trio.current_time
        )
        self.staging = None
        if stage is not None:
            self.staging = Staging(str(stage), largest=1 << 40, free_bytes=0, free_percent=0)
        marks = map(str, itertools.count(1))
        self.fs = WritableFileSystem(
            self.client,
            self.writing,
            Modes(self.writing, self.staging, appendable, switch_up_to),
            writes,
            lambda: next(marks),
            SmallPages(self.client, page),
            self.reading,
            prefix=prefix,
            policy=dataclasses.replace(policy, attr_timeout=attr_timeout),
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

    async def write(self, path: bytes, data: bytes, flags: int = os.O_WRONLY | os.O_TRUNC) -> None:
        """Open or create, write at once, and close a file."""
        directory, _, name = path.rpartition(b"/")
        parent = (await self.walk(directory)).number if directory else ROOT
        try:
            found = await self.fs.lookup(parent, name)
            handle = await self.fs.open_for(found.number, flags)
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
            _, handle = await self.fs.create(parent, name, flags | os.O_CREAT)
        try:
            at = (await self.walk(path)).size if flags & os.O_APPEND else 0
            await self.fs.write(handle, at, data)
            await self.fs.flush(handle)
        finally:
            await self.fs.release(handle)

    def stored(self, key: bytes) -> bytes | None:
        """Return an object's bytes as the bucket has them, None if there is no such object."""
        try:
            info = self.bucket.head(key, deadline=time.monotonic() + 60)
        except NotFound:
            return None
        data = bytearray(info.size)
        if data:
            self.bucket.get_range_into(
                key, 0, [memoryview(data)], if_match=None, deadline=time.monotonic() + 60
            )
        return bytes(data)

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
    capabilities: Capabilities = SCALED,
    part: int = MIB,
    quota: int = 0,
    spill: Path = Path("/var/tmp"),
    stage: Path | None = None,
    appendable: bool = False,
    switch_up_to: int = 0,
    policy: Policy = Policy(attr_timeout=0),  # noqa: B008 - a frozen value
    writes: WritePolicy = WritePolicy(),  # noqa: B008 - a frozen value
) -> AsyncIterator[Core]:
    """`part` is the size of an upload's parts; `stage` a directory for random writes."""
    async with trio.open_nursery() as nursery:
        made = Core(
            nursery,
            memory=memory,
            chunk=chunk,
            attr_timeout=attr_timeout,
            prefix=prefix,
            page=page,
            gate=gate,
            capabilities=capabilities,
            part=part,
            quota=quota,
            spill=spill,
            stage=stage,
            appendable=appendable,
            switch_up_to=switch_up_to,
            policy=policy,
            writes=writes,
        )
        try:
            yield made
        finally:
            made.spill.close()
            if made.staging is not None:
                made.staging.close()
        nursery.cancel_scope.cancel()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a clock that jumps whenever all tasks wait."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
