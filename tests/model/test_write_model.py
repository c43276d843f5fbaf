"""Random writes, renames and removals through the vfs, held against the model in `writes`.

The file system runs without FUSE on a mock clock; a second client changes the bucket in between.
After every operation all objects, all names, all sizes and all bytes are compared; files of which
parts are on their way already only now and then, for a read completes what it needs.

The claims: an object is what was written and completed, whole; nothing of others is overwritten
by what goes on from another version; a name shows the bytes that were written through this mount
at once; an error is the one that is documented; when all is closed and forgotten nothing is left.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import StoreError, errno_of
from ossfs.tree.inodes import ROOT, Directory, Inode
from ossfs.vfs.opened import writer_of
from tests.model.operations import Mode, Operation, Outcome, Seen, below, parent_of
from tests.model.planned import WHATS, Planner
from tests.model.writes import Model
from tests.support.core import Core, core, run

PART = 64 * 1024
SEQUENTIAL = Mode("sequential", PART, 100)
APPENDABLE = Mode("appendable", PART, 100, grows=True)
STAGED = Mode("staged", PART, 100, random=True)
TIMEOUT = 10.0

SEED = int(os.environ.get("OSSFS_MODEL_SEED") or random.SystemRandom().getrandbits(32))
"""Give it in the environment to repeat a run."""

Step = tuple[str, int, int]
ANY = st.integers(0, 1 << 20)
STEPS = st.lists(st.tuples(st.sampled_from(WHATS), ANY, ANY), min_size=60, max_size=140)

FLAGS = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "x": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}
ANNOUNCED = re.compile("^refused to (write|cut)|is removed while it is open")


async def outcome(call: Awaitable[Outcome]) -> Outcome:
    """What a call came to."""
    try:
        return await call
    except FileSystemError as error:
        return Outcome(error.errno)
    except StoreError as error:
        return Outcome(errno_of(error, open_handle=True))


class Kernel:
    """Does to the file system what a kernel does for a program's calls."""

    def __init__(self, made: Core) -> None:
        self.made = made
        self.fs = made.fs
        self.opened: dict[int, tuple[int, Inode]] = {}
        """The file system's handle and the inode of each handle of the model."""
        self.new: tuple[int, Inode] | None = None
        self.lookups: Counter[int] = Counter()

    async def do(self, operation: Operation) -> Outcome:
        return await outcome(self._do(operation))

    async def _do(self, operation: Operation) -> Outcome:
        handle, inode = self.opened.get(operation.handle, (0, self.fs.inodes.root))
        path, fs = operation.path, self.fs
        match operation.what:
            case "open":
                self.new = await self._open(path, operation.mode)
            case "write":
                at = inode.size if operation.offset is None else operation.offset
                return Outcome(size=await fs.write(handle, at, operation.data))
            case "read":
                assert operation.offset is not None
                return await self._read(handle, operation.offset, operation.size)
            case "flush":
                await fs.flush(handle)
            case "close":
                del self.opened[operation.handle]
                try:
                    await fs.flush(handle)
                finally:
                    await fs.release(handle)
            case "fsync":
                await fs.fsync(handle)
            case "stat":
                return Outcome(size=(await fs.attributes(inode.number)).size)
            case "cut handle":
                await fs.set_size(inode.number, operation.size, handle)
            case "cut":
                await fs.set_size((await self.walk(path)).number, operation.size, None)
            case "unlink":
                await fs.unlink(*await self._name(path))
            case "rmdir":
                await fs.rmdir(*await self._name(path))
            case "mkdir":
                parent, name = await self._new_name(path)
                self._count(await fs.mkdir(parent, name))
            case "rename":
                parent, name = await self._name(path)
                to, last = await self._new_name(operation.to)
                await fs.rename(parent, name, to, last, 0)
            case _:
                await self._otherwise(operation)
        return Outcome()

    async def _otherwise(self, operation: Operation) -> None:
        path = operation.path
        match operation.what:
            case "outside put" | "outside put open":
                self.made.put(path, operation.data)
            case "outside append":
                stored = self.made.stored(path)
                self.made.bucket.append(
                    path,
                    len(stored) if stored is not None else 0,
                    [operation.data],
                    deadline=time.monotonic() + 60,
                )
            case "outside delete":
                self.made.delete(path)
            case "forget":
                self.forget()
            case "pass time":
                await trio.sleep(operation.size)
                self.fs.sweep()
            case what:
                raise AssertionError(what)

    async def walk(self, path: bytes) -> Inode:
        """Look a path up, component by component."""
        inode: Inode = self.fs.inodes.root
        for name in path.split(b"/") if path else []:
            inode = self._count(await self.fs.lookup(inode.number, name))
        return inode

    def _count(self, inode: Inode) -> Inode:
        self.lookups[inode.number] += 1
        return inode

    async def _name(self, path: bytes) -> tuple[int, bytes]:
        """The parent and name of what is there."""
        await self.walk(path)
        return await self._new_name(path)

    async def _new_name(self, path: bytes) -> tuple[int, bytes]:
        parent = await self.walk(parent_of(path))
        name = path.rpartition(b"/")[2]
        try:
            self._count(await self.fs.lookup(parent.number, name))
        except FileSystemError as error:
            if error.errno != errno.ENOENT:
                raise
        return parent.number, name

    async def _open(self, path: bytes, mode: str) -> tuple[int, Inode]:
        parent, name = await self.walk(parent_of(path)), path.rpartition(b"/")[2]
        flags = FLAGS[mode]
        try:
            inode = self._count(await self.fs.lookup(parent.number, name))
        except FileSystemError as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
        else:
            if not flags & os.O_EXCL:
                return await self.fs.open_for(inode.number, flags), inode
        inode, handle = await self.fs.create(parent.number, name, flags)
        return handle, self._count(inode)

    async def _read(self, handle: int, offset: int, size: int) -> Outcome:
        data = b""
        while len(data) < size:
            try:
                piece = bytes(
                    await self.fs.read(handle, offset + len(data), min(BLOCK, size - len(data)))
                )
            except FileSystemError as error:
                return Outcome(error.errno, data)
            except StoreError as error:
                return Outcome(errno_of(error, open_handle=True), data)
            if not piece:
                break
            data += piece
        return Outcome(data=data)

    def forget(self) -> None:
        """Drop what nobody has open, as memory pressure makes a kernel do."""
        held = {inode.number for _, inode in self.opened.values()}
        for number in [number for number in self.lookups if number not in held]:
            self._forget(number)

    def _forget(self, number: int) -> None:
        count = self.lookups.pop(number)
        if number != ROOT:
            assert self.fs.inodes[number].lookups == count
            self.fs.forget([(number, count)])

    # What is to be compared

    async def size(self, path: bytes) -> Outcome:
        """Look a name up; return the size of a file."""

        async def look() -> Outcome:
            return Outcome(size=(await self.walk(path)).size)

        return await outcome(look())

    def unsaved(self) -> set[int]:
        """The model's numbers of handles with bytes that are not in the bucket."""
        writers = {number: writer_of(inode) for number, (_, inode) in self.opened.items()}
        return {
            number
            for number, writer in writers.items()
            if writer is not None and writer.dirty and writer.failure is None
        }

    def objects(self) -> dict[bytes, bytes]:
        """Every object, as the store has it."""
        page = self.made.bucket.list_page(b"", delimiter=b"", deadline=time.monotonic() + 60)
        found = {entry.key: self.made.stored(entry.key) for entry in page.entries}
        return {key: data for key, data in found.items() if data is not None}

    async def tree(self, look_at: Callable[[bytes], bool]) -> dict[bytes, Seen]:
        """Walk everything; read the files that are to be looked at."""
        found: dict[bytes, Seen] = {}
        directories = [(b"", ROOT)]
        while directories:
            around, number = directories.pop()
            for name, listed, _ in await self.made.listing(number):
                self._count(listed)
                path = below(around) + name
                try:
                    inode = await self.walk(path)
                except FileSystemError as error:
                    found[path] = Seen(0, None, error.errno)
                    continue
                if isinstance(inode, Directory):
                    found[path] = Seen(None)
                    directories.append((path, inode.number))
                elif look_at(path):
                    found[path] = await self._file(inode)
                else:
                    found[path] = Seen(inode.size)
        return found

    async def _file(self, inode: Inode) -> Seen:
        size = inode.size
        try:
            handle = await self.fs.open_for(inode.number, os.O_RDONLY)
        except FileSystemError as error:
            return Seen(size, None, error.errno)
        except StoreError as error:
            return Seen(size, None, errno_of(error, open_handle=True))
        try:
            read = await self._read(handle, 0, BLOCK)
        finally:
            await self.fs.release(handle)
        return Seen(size, read.data, read.errno)

    async def leave(self, model: Model) -> None:
        """Close everything, with the model looking on, and forget everything."""
        for number in list(self.opened):
            closing = Operation("close", handle=number)
            model.happened(closing, await self.do(closing))
        self.fs.sweep()
        for number in list(self.lookups):
            self._forget(number)


async def compare(kernel: Kernel, model: Model, last: Operation, *, deeply: bool) -> None:
    """Hold everything against the model."""
    await trio.testing.wait_all_tasks_blocked()
    looked_at = {model.handles[last.handle].file.path} if last.handle in model.handles else set()
    model.saw_bucket(kernel.objects(), looked_at if last.what == "read" else set())
    for path in sorted(model.touched):
        model.looked_up(path, await kernel.size(path))
    model.settled()
    model.saw_unsaved(kernel.unsaved())

    seen = await kernel.tree(lambda path: deeply or model.readable(path))
    await trio.testing.wait_all_tasks_blocked()
    model.saw_tree(seen)
    model.saw_bucket(kernel.objects(), set(seen) if deeply else set())
    model.settled()
    model.saw_unsaved(kernel.unsaved())


async def act(kernel: Kernel, model: Model, steps: list[Step]) -> int:
    """Perform steps, each held against the model; return how many there was something to do for."""
    planner = Planner(model)
    performed: list[Operation] = []
    try:
        for what, pick, other in steps:
            operation = planner.operation(what, pick, other)
            if operation is None:
                continue
            performed.append(operation)
            done = await kernel.do(operation)
            number = model.happened(operation, done)
            if number:
                assert kernel.new is not None
                kernel.opened[number] = kernel.new
            await compare(kernel, model, operation, deeply=other % 5 == 0)
        await kernel.leave(model)
    except BaseException:
        hypothesis.note(f"OSSFS_MODEL_SEED={SEED} repeats this; the last operations:")
        hypothesis.note("\n".join(map(repr, performed[-40:])))
        raise
    return len(performed)


def apply(mode: Mode, steps: list[Step], switch_up_to: int = 0) -> int:
    """Perform steps on a new bucket, of which nothing is left behind; return their number."""
    performed = 0

    async def main() -> None:
        nonlocal performed
        with tempfile.TemporaryDirectory() as stage:
            async with core(
                attr_timeout=mode.timeout,
                part=mode.part,
                stage=Path(stage) if mode.random else None,
                appendable=mode.grows,
                switch_up_to=switch_up_to,
            ) as made:
                model = Model(mode, trio.current_time)
                performed = await act(Kernel(made), model, steps)
                await trio.testing.wait_all_tasks_blocked()
                assert [inode.number for inode in made.fs.inodes] == [ROOT]
                assert made.budget.used == made.memory.used == made.spill.used == 0
                assert made.bucket.list_uploads(b"", deadline=time.monotonic() + 60) == []
                assert [name for name in os.listdir(stage) if name.startswith("stage-")] == []

    run(main)
    return performed


class _Announced(logging.Filter):
    """Drops the warnings that are expected of wrong steps, as often as they come."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.WARNING or not ANNOUNCED.search(record.getMessage())


@pytest.fixture(scope="module", autouse=True)
def _warnings_of_wrong_steps() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("ossfs.vfs.files", "ossfs.writing.staged")]
    announced = _Announced()
    for logger in loggers:
        logger.addFilter(announced)
    yield
    for logger in loggers:
        logger.removeFilter(announced)


def explore(mode: Mode, switches: list[int]) -> None:
    """Apply random lists of steps; OSSFS_MODEL_SEED repeats a run, and its failure."""
    performed = 0

    @hypothesis.seed(SEED)
    @hypothesis.settings(max_examples=100, print_blob=True, derandomize=False)
    @hypothesis.given(STEPS, st.sampled_from(switches))
    def hold(steps: list[Step], switch_up_to: int) -> None:
        nonlocal performed
        performed += apply(mode, steps, switch_up_to)

    hold()
    assert performed > 3_000


@pytest.mark.timeout(900)  # a failure is worth the minutes that shrinking it takes
@pytest.mark.parametrize("timeout", [0.0, TIMEOUT])
def test_files_written_from_their_beginning_or_end_are_what_the_model_says(timeout: float) -> None:
    explore(SEQUENTIAL._replace(timeout=timeout), [0])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("timeout", [0.0, TIMEOUT])
def test_objects_that_grow_are_what_the_model_says(timeout: float) -> None:
    explore(APPENDABLE._replace(timeout=timeout), [0, 2 * PART])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("timeout", [0.0, TIMEOUT])
def test_files_written_anywhere_are_what_the_model_says(timeout: float) -> None:
    explore(STAGED._replace(timeout=timeout), [0])
