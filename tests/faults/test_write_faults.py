"""Every store call of the write path goes wrong in every way, once and for ever.

Whatever the fault: either the call returned 0 and the bucket holds the whole file, or it returned
an error and the bucket holds the old object or the new one; never anything else. None is there only
where the store said that it held other bytes than were sent, so that its object was removed, and
where an object that is appended to had to go first: of that there may be a whole prefix, too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Capabilities
from ossfs.store.errors import Denied, Expired, StoreError, Throttled, Unavailable, errno_of
from ossfs.store.plan import CorruptCrc, ExpireToken, Fault, Hang, LoseReply, Raise, Rule
from ossfs.tree.inodes import ROOT
from tests.support.core import MIB, Core, core, run
from tests.unit.writing.support import noise, overheard

LIMITS = Capabilities(minimum_part=100, maximum_copy_part=2 * MIB)
OLD, NEW, MORE = noise(70_000, 1), noise(2 * MIB + 17, 2), noise(MIB + 5, 3)
SMALL = NEW[:500]

FAULTS: list[tuple[Fault, int | None]] = [
    (fault, times)
    for fault in (
        Raise(Unavailable("by plan: an error")),
        Raise(Throttled("by plan", status=503, code="ServiceUnavailable")),
        LoseReply(Unavailable("by plan: the connection was cut")),
        Raise(Denied("by plan: no right", status=403, code="AccessDenied")),
        Raise(Expired("by plan: refreshed in vain", status=403, code="SecurityTokenExpired")),
        Hang(),
        CorruptCrc(),
        ExpireToken(),
    )
    for times in (1, None)
]

Errors = (StoreError, FileSystemError, OSError)
Scenario = Callable[[Core, list[bytes | None]], Awaitable[None]]
"""Does something to b"f" and says, before each call that may fail, what it may leave there."""


async def opened(made: Core, flags: int) -> int:
    """Open b"f", or create it where the bucket has none."""
    try:
        number = (await made.fs.lookup(ROOT, b"f")).number
    except FileSystemError:
        return (await made.fs.create(ROOT, b"f", flags | os.O_CREAT))[1]
    return await made.fs.open_for(number, flags)


def writing(*pieces: bytes, flags: int = os.O_WRONLY | os.O_TRUNC) -> Scenario:
    """Write each piece and flush, through one handle."""

    async def scenario(made: Core, may_be: list[bytes | None]) -> None:
        whole = OLD if flags & os.O_APPEND else b""
        handle = await opened(made, flags)
        try:
            for piece in pieces:
                may_be.append(whole + piece)
                await made.fs.write(handle, len(whole), piece)
                whole += piece
                await made.fs.flush(handle)
                assert made.stored(b"f") == whole, "flush returned 0"
        finally:
            await made.fs.release(handle)

    return scenario


async def exclusive(made: Core, may_be: list[bytes | None]) -> None:
    made.delete(b"f")
    may_be[:] = [None, SMALL]
    _, handle = await made.fs.create(ROOT, b"f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        await made.fs.write(handle, 0, SMALL)
        await made.fs.flush(handle)
        assert made.stored(b"f") == SMALL
    finally:
        await made.fs.release(handle)


async def renamed(made: Core, may_be: list[bytes | None]) -> None:
    await made.fs.lookup(ROOT, b"f")
    may_be.append(None)
    try:
        await made.fs.rename(ROOT, b"f", ROOT, b"g", 0)
    except Errors:
        assert OLD in (made.stored(b"f"), made.stored(b"g"))
        raise
    assert (made.stored(b"f"), made.stored(b"g")) == (None, OLD)


async def removed(made: Core, may_be: list[bytes | None]) -> None:
    await made.fs.lookup(ROOT, b"f")
    may_be.append(None)
    await made.fs.unlink(ROOT, b"f")
    assert made.stored(b"f") is None


async def directories(made: Core, may_be: list[bytes | None]) -> None:
    directory = await made.fs.mkdir(ROOT, b"d")
    assert made.stored(b"d/") == b""
    await made.fs.lookup(ROOT, b"f")
    may_be.append(None)
    try:
        await made.fs.rename(ROOT, b"f", directory.number, b"f", 0)
        await made.fs.rename(ROOT, b"d", ROOT, b"e", 0)
    except Errors:
        assert OLD in [made.stored(key) for key in (b"f", b"d/f", b"e/f")]
        raise
    assert made.stored(b"e/f") == OLD


async def emptied(made: Core, may_be: list[bytes | None]) -> None:
    """Take the last file of a directory without a marker away, then the directory."""
    made.put(b"d/last", b"1")
    directory = await made.fs.lookup(ROOT, b"d")
    await made.fs.unlink(directory.number, b"last")
    assert made.stored(b"d/last") is None
    await made.fs.lookup(ROOT, b"d")
    await made.fs.rmdir(ROOT, b"d")
    assert made.stored(b"d/") is None


async def moved(made: Core, may_be: list[bytes | None]) -> None:
    """Rename a directory with open files in it."""
    files = {b"d/a": noise(10, 4), b"d/b/c": NEW, b"d/b/d": MORE}
    for key, data in files.items():
        made.put(key, data)
    made.put(b"d/b/", b"")
    inode = await made.walk(b"d/a")
    reader = await made.fs.open(inode.number)
    try:
        await made.fs.rename(ROOT, b"d", ROOT, b"e", 0)
        names = {b"e" + key[1:] for key in files}
    except Errors:
        names = {*files, *(b"e" + key[1:] for key in files)}
        raise
    finally:
        for key, data in files.items():
            places = names & {key, b"e" + key[1:]}
            assert data in [made.stored(place) for place in places]
        with suppress(*Errors):
            assert bytes(await made.fs.read(reader, 0, 20)) == files[b"d/a"]
        await made.fs.release(reader)


async def synced(made: Core, may_be: list[bytes | None]) -> None:
    """fsync, go on, and leave the rest to a release that nobody waits for."""
    handle = await opened(made, os.O_WRONLY | os.O_TRUNC)
    try:
        may_be.append(SMALL)
        await made.fs.write(handle, 0, SMALL)
        await made.fs.fsync(handle)
        assert made.stored(b"f") == SMALL
        may_be.append(SMALL + MORE)
        await made.fs.write(handle, len(SMALL), MORE)
    finally:
        await made.fs.release(handle)


async def cut(made: Core, may_be: list[bytes | None]) -> None:
    number = (await made.fs.lookup(ROOT, b"f")).number
    may_be.append(b"")
    await made.fs.set_size(number, 0, None)
    assert made.stored(b"f") == b""


SCENARIOS: dict[str, Scenario] = {
    "a small file": writing(SMALL),
    "a large file": writing(NEW),
    "a small file flushed twice": writing(SMALL, SMALL),
    "a large file flushed twice": writing(NEW, MORE),
    "a small append": writing(SMALL, flags=os.O_WRONLY | os.O_APPEND),
    "a large append": writing(NEW, flags=os.O_WRONLY | os.O_APPEND),
    "an exclusive create": exclusive,
    "a rename": renamed,
    "a removal": removed,
    "directories": directories,
    "an emptied directory": emptied,
    "a directory with open files": moved,
    "an fsync, and a release": synced,
    "a truncation": cut,
}
ANY_MODE = (removed, emptied)
"""Scenarios that have nothing to do with how files are written."""


async def attempt(
    scenario: Scenario, mode: dict[str, object], rule: Rule | None
) -> tuple[list[str], int]:
    """Run a scenario against a fault; return the calls that the store saw and those it met."""
    async with core(capabilities=LIMITS, part=MIB, attr_timeout=0, **mode) as made:  # type: ignore[arg-type]
        made.store._sleep = lambda _seconds: None
        made.client._refresh = made.store.refresh
        if mode.get("appendable"):
            made.bucket.append(b"f", 0, [OLD], deadline=1e18)
        else:
            made.put(b"f", OLD)
        if rule is not None:
            made.store.add(rule)
        may_be: list[bytes | None] = [OLD]
        with overheard():
            try:
                await scenario(made, may_be)
            except Errors:
                assert rule is not None
                assert made.store.fired(rule), "it failed without a fault"
                if isinstance(rule.fault, CorruptCrc) or mode.get("appendable"):
                    may_be.append(None)
            made.store.heal()
            await made.writing.idle.wait()
            await trio.testing.wait_all_tasks_blocked()
            there = made.stored(b"f")
            assert there in may_be or (
                there is not None
                and mode.get("appendable")
                and any(one is not None and one.startswith(there) for one in may_be)
            )
            calls = [call.op for call in made.store.calls]
            # The tree agrees with the bucket again, and nothing is held.
            with suppress(FileSystemError):
                assert await made.contents(b"f") == made.stored(b"f")
            made.forget_everything()
            assert len(made.fs.inodes) == 1
            assert (made.memory.used, made.spill.used, made.budget.used) == (0, 0, 0)
        return calls, made.store.fired(rule) if rule is not None else 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["sequential", "appendable", "staged"])
def test_a_write_is_whole_or_an_error_whatever_fails(mode: str, tmp_path: Path) -> None:
    plans = 0

    async def main() -> None:
        nonlocal plans
        options: dict[str, object] = {}
        if mode == "staged":
            options["stage"] = tmp_path
        elif mode == "appendable":
            options["appendable"] = True
        for name, scenario in SCENARIOS.items():
            if mode != "sequential" and scenario in ANY_MODE:
                continue
            calls, _ = await attempt(scenario, options, None)
            for op in dict.fromkeys(calls):
                for nth in range(1, min(calls.count(op), 3) + 1):
                    for fault, times in FAULTS:
                        try:
                            _, met = await attempt(
                                scenario, options, Rule(op, fault, nth=nth, times=times)
                            )
                        except BaseException as error:
                            error.add_note(f"{mode}: {name}, {op} number {nth}: {fault}, {times}")
                            raise
                        plans += met > 0

    run(main)
    print(f"{plans} plans ran")
    assert plans > 1_000


def test_the_errno_of_a_late_store_is_etimedout() -> None:
    async def main() -> None:
        async with core() as made:
            made.store._sleep = lambda _seconds: None
            made.store.add(Rule("put", Hang(), times=None))
            handle = (await made.fs.create(ROOT, b"f", os.O_WRONLY))[1]
            await made.fs.write(handle, 0, b"x")
            with overheard(), pytest.raises(StoreError) as raised:
                await made.fs.flush(handle)
            assert errno_of(raised.value) == errno.ETIMEDOUT
            await made.fs.release(handle)

    run(main)
