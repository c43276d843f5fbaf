"""What races of the file system are tested with: answers of the store that come late."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio.testing

from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import StoreError, errno_of
from ossfs.store.runner import Carrier, Runner
from ossfs.tree.inodes import ROOT
from tests.support.core import Core

T = TypeVar("T")


class Late:
    """One request that stands still, before or after it is performed, until it may go on."""

    def __init__(self, op: str, key: bytes | None, *, performed: bool) -> None:
        self.op = op
        self.key = key
        self.performed = performed
        self._arrived = trio.Event()
        self._going = trio.Event()

    async def here(self) -> None:
        """Wait until the request stands still."""
        await self._arrived.wait()

    def go(self) -> None:
        self._going.set()

    @property
    def met(self) -> bool:
        return self._arrived.is_set()

    async def stand(self) -> None:
        self._arrived.set()
        await self._going.wait()


class LateRunner:
    """Implements `runner.Runner` over another, whose answers it holds back."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.late: list[Late] = []

    async def run(self, op: str, key: bytes, call: Callable[[], T], carrier: Carrier) -> T:
        late = next(
            (one for one in self.late if one.op == op and one.key in (None, key) and not one.met),
            None,
        )
        if late is None:
            return await self._inner.run(op, key, call, carrier)
        if not late.performed:
            await late.stand()
            return await self._inner.run(op, key, call, carrier)
        try:
            return await self._inner.run(op, key, call, carrier)
        finally:
            await late.stand()


def late(made: Core, op: str, key: bytes | None = None, *, performed: bool = True) -> Late:
    """Let the next such request stand still; `performed`: only its answer does."""
    runner = made.client._runner
    if not isinstance(runner, LateRunner):
        runner = made.client._runner = LateRunner(runner)
    one = Late(op, key, performed=performed)
    runner.late.append(one)
    return one


class Started:
    """The outcome of a call that runs beside the test."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.value: object = None
        self.errno = 0

    async def run(self, call: Callable[[], Awaitable[object]]) -> None:
        self.errno, self.value = await outcome(call())
        self.done.set()


def start(
    nursery: trio.Nursery, call: Callable[..., Awaitable[object]], *arguments: object
) -> Started:
    """Run a call beside the test; its error becomes an errno."""
    started = Started()
    nursery.start_soon(started.run, lambda: call(*arguments))
    return started


async def outcome(call: Awaitable[T]) -> tuple[int, T | None]:
    """Return the errno the kernel would be told, 0 for success, and the result."""
    try:
        return 0, await call
    except FileSystemError as error:
        return error.errno, None
    except StoreError as error:
        return errno_of(error, open_handle=True), None


async def refusal(call: Awaitable[object]) -> int:
    """Return the errno that a call must fail with."""
    number, _ = await outcome(call)
    assert number, "it was not refused"
    return number


async def exists(made: Core, path: bytes) -> bool:
    """Look a path up."""
    number, _ = await outcome(made.walk(path))
    assert number in (0, errno.ENOENT)
    return not number


async def names(made: Core, number: int = ROOT) -> list[bytes]:
    return [name for name, _, _ in await made.listing(number)]


async def whole(made: Core, handle: int, size: int = 1 << 20) -> bytes:
    """Read an open file from its beginning."""
    data = b""
    while piece := bytes(await made.fs.read(handle, len(data), size)):
        data += piece
    return data


async def settle(made: Core) -> None:
    """Let everything that is under way end."""
    await trio.testing.wait_all_tasks_blocked()
    await made.writing.idle.wait()
    await trio.testing.wait_all_tasks_blocked()


async def nothing_left(made: Core) -> None:
    """When every handle is closed and everything forgotten, only the root is there."""
    await settle(made)
    assert not made.fs._files
    made.forget_everything()
    assert [inode.name for inode in made.fs.inodes] == [made.fs.inodes.root.name]
    assert not made.fs._written
    assert (made.memory.used, made.spill.used, made.memory.shipping) == (0, 0, 0)
    assert made.budget.used == 0
    assert made.bucket.list_uploads(b"", deadline=1e18) == []
