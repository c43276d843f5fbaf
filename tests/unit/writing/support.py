"""Writers without a file system: over a faulty store in memory, on trio's mock clock."""

from __future__ import annotations

import logging
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest
import trio
import trio.testing

from ossfs.runtime.blocks import BlockPool
from ossfs.runtime.budget import Budget
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Capabilities, ObjectType, PutOptions
from ossfs.store.client import StoreClient
from ossfs.store.crc import crc64
from ossfs.store.errors import NotFound
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.runner import InlineRunner
from ossfs.writing.api import Target, Version, Writer
from ossfs.writing.appending import AppendWriter
from ossfs.writing.context import Writing, WritingLimits
from ossfs.writing.memory import Memory
from ossfs.writing.sequential import SequentialWriter
from ossfs.writing.spill import Spill

KIB = 1 << 10
MIB = 1 << 20
PART = 16 * KIB
"""A part of the small mount, which needs no megabytes to come to its limits."""
MINIMUM = KIB
"""The least part of the small mount."""
SMALL_LIMITS = Capabilities(
    minimum_part=MINIMUM, maximum_parts=40, maximum_put=512 * KIB, maximum_copy_part=64 * KIB
)

KEY = b"key"


class Gate:
    """Holds every request of some operations before it is performed, until it is opened."""

    def __init__(self, *ops: str) -> None:
        self._ops = ops
        self._opened = trio.Event()
        self.held = 0
        """Requests that stand here."""

    async def __call__(self, op: str, _key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if op in self._ops:
            self.held += 1
            try:
                await self._opened.wait()
            finally:
                self.held -= 1

    def open(self) -> None:
        self._opened.set()


class Room:
    """All writers of one mount, and the bucket they write to."""

    def __init__(
        self,
        nursery: trio.Nursery,
        spill: Spill,
        *,
        capabilities: Capabilities,
        part: int,
        concurrency: int,
        quota: int,
        limit: int,
        most_waiting: int,
        gate: Callable[[str, bytes], Awaitable[None]] | None,
    ) -> None:
        clock = cast("trio.testing.MockClock", trio.lowlevel.current_clock())
        self.bucket = MemoryStore(capabilities)
        self.store = FaultyStore(self.bucket, monotonic=trio.current_time, sleep=clock.jump)
        self.client = StoreClient(
            self.store,
            request_timeout=30,
            rng=random.Random(0),
            refresh=self.store.refresh,
            runner=InlineRunner(gate) if gate is not None else InlineRunner(),
        )
        self.budget = Budget(limit)
        self.spill = spill
        self.memory = Memory(
            BlockPool(self.budget), self.budget, self.spill, quota=quota, most_waiting=most_waiting
        )
        self.writing = Writing(
            self.client,
            self.memory,
            WritingLimits(part=part, concurrency=concurrency, copy_concurrency=4),
            nursery,
            trio.current_time,
        )
        self.made: list[Version] = []
        """What writers said of the versions they made, in order."""

    def sequential(
        self, key: bytes = KEY, base: Version | None = None, *, target: Target | None = None
    ) -> SequentialWriter:
        return SequentialWriter(self.writing, target or Target(key), base, self.made.append)

    def appending(
        self, key: bytes = KEY, base: Version | None = None, *, target: Target | None = None
    ) -> AppendWriter:
        return AppendWriter(self.writing, target or Target(key), base, self.made.append)

    # -- behind the writers' back -------------------------------------------------------------

    def put(self, data: bytes, key: bytes = KEY, options: PutOptions | None = None) -> Version:
        """Put an object by another client; return its version."""
        self.bucket.put(key, [data], options or PutOptions(), deadline=0)
        return self.version(key)

    def append(self, data: bytes, key: bytes = KEY, position: int = 0) -> Version:
        """Append to an object by another client; return its version."""
        self.bucket.append(key, position, [data], deadline=0)
        return self.version(key)

    def version(self, key: bytes = KEY) -> Version:
        return Version.of(self.bucket.head(key, full=True, deadline=0))

    def content(self, key: bytes = KEY) -> bytes | None:
        """Return the object's bytes, None where there is no object; its CRC is theirs."""
        try:
            version = self.version(key)
        except NotFound:
            return None
        data = bytearray(version.size)
        if data:
            self.bucket.get_range_into(key, 0, [memoryview(data)], if_match=None, deadline=0)
        assert version.crc64 == crc64([data])
        return bytes(data)

    def type(self, key: bytes = KEY) -> ObjectType:
        return self.version(key).type

    @property
    def uploads(self) -> int:
        """Uploads that were begun and neither completed nor aborted."""
        return len(self.bucket.list_uploads(b"", deadline=0))

    def requests(self) -> list[str]:
        """Return the operations the store has seen, and forget them."""
        seen = [call.op for call in self.store.calls]
        self.store.calls.clear()
        return seen

    def assert_all_given_back(self) -> None:
        """After every writer was closed: no memory, no disk, no upload, nobody waits."""
        assert self.memory.used == 0
        assert self.memory.shipping == 0
        assert self.memory.waiting == 0
        assert not self.memory.holders
        assert self.budget.used == 0
        assert self.spill.used == 0
        assert self.writing.left == 0
        assert self.uploads == 0


@asynccontextmanager
async def room(
    *,
    capabilities: Capabilities = SMALL_LIMITS,
    part: int = PART,
    concurrency: int = 4,
    quota: int = 16 * MIB,
    limit: int = 64 * MIB,
    most_waiting: int = 16,
    disk: int = 64 * MIB,
    gate: Callable[[str, bytes], Awaitable[None]] | None = None,
) -> AsyncIterator[Room]:
    """Give a mount's writers with limits scaled down; whoever makes a writer closes it.

    `quota` and `limit` are the writers' share and all of the budget, `disk` what may be spilled.
    """
    spill = Spill(tempfile.gettempdir(), disk)
    try:
        async with trio.open_nursery() as nursery:
            yield Room(
                nursery,
                spill,
                capabilities=capabilities,
                part=part,
                concurrency=concurrency,
                quota=quota,
                limit=limit,
                most_waiting=most_waiting,
                gate=gate,
            )
            nursery.cancel_scope.cancel()
    finally:
        spill.close()


async def closed(made: Room, *writers: Writer) -> None:
    """Close the writers; everything is given back then."""
    for writer in writers:
        await writer.close()
    await trio.testing.wait_all_tasks_blocked()
    await made.writing.idle.wait()
    await trio.testing.wait_all_tasks_blocked()
    made.assert_all_given_back()


@contextmanager
def raises_errno(number: int) -> Iterator[None]:
    """Expect a FileSystemError of that errno."""
    with pytest.raises(FileSystemError) as caught:
        yield
    assert caught.value.errno == number


async def whole(writer: Writer, made: Room) -> bytes:
    """Return all bytes as a reader of the same mount sees them."""
    data = await part_of(writer, made, 0, writer.size)
    assert len(data) == writer.size
    return data


async def part_of(writer: Writer, made: Room, offset: int, size: int) -> bytes:
    """Read as the file system does: from the writer, else from its base."""
    own = await writer.read(offset, size)
    if own is not None:
        return own
    base = writer.base
    assert base is not None
    data = bytearray(min(size, base.size - offset))
    made.bucket.get_range_into(
        writer.target.key, offset, [memoryview(data)], if_match=base.etag, deadline=0
    )
    return bytes(data)


def noise(size: int, seed: int = 1) -> bytes:
    """Return bytes no two pieces of which are alike."""
    return random.Random(seed).randbytes(size)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a clock that jumps whenever all tasks wait."""
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Give what is logged meanwhile, which then is no matter of the test's silence."""
    said: list[str] = []
    logger = logging.getLogger("ossfs")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
