"""A long random run on a real mount in each mode, held against the model in `writes`.

Programs' calls go through the kernel, with its caches; the second client is oss2, on
SeaweedFS minio. The whole tree
and the whole bucket are compared every few operations and at the end. In between the model knows
less than on the mock clock (see test_write_model), so nothing is left uncertain for long: a name
that was changed from outside is looked at, and a file that is lost is brought to say so, before
anything else is done.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import oss2
import pytest

from ossfs.runtime.blocks import BLOCK
from tests.model.operations import Mode, Operation, Outcome, Seen, below
from tests.model.planned import WHATS, Planner
from tests.model.writes import Model
from tests.mount.conftest import MountMaker
from tests.support.mount import Mount, wait_until
from tests.support.s3_bucket import S3Bucket

PART = 1 << 20
MINIMUM = 100 * 1024
SEQUENTIAL = Mode("sequential", PART, MINIMUM, cached=True)
APPENDABLE = Mode("appendable", PART, MINIMUM, grows=True, cached=True)
STAGED = Mode("staged", PART, MINIMUM, random=True, cached=True)
# S3's parts are larger, and so are the files; there are no appendable objects.
S3_SEQUENTIAL = Mode("s3-sequential", 6 << 20, 5 << 20, cached=True, filer=True)
S3_STAGED = Mode("s3-staged", 6 << 20, 5 << 20, random=True, cached=True, filer=True)
MODES = (SEQUENTIAL, APPENDABLE, STAGED, S3_SEQUENTIAL, S3_STAGED)

STEPS = 1_500
COMPARED_EVERY = 25
SEED = int(os.environ.get("OSSFS_MODEL_SEED") or 20_261_126)
"""Of the run that everybody makes; give another in the environment."""
FLAGS = {
    "r": os.O_RDONLY,
    "r+": os.O_RDWR,
    "w": os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    "a": os.O_RDWR | os.O_CREAT | os.O_APPEND,
    "x": os.O_RDWR | os.O_CREAT | os.O_EXCL,
}
SETTLED_WITHIN_S = 10.0
"""Appends and aborts go on after the call that began them."""


class Machine:
    """A program on a mount, and the second client."""

    def __init__(self, mounted: Mount, bucket: oss2.Bucket | S3Bucket) -> None:
        self.root = os.fsencode(mounted.path)
        self.bucket = bucket
        self.descriptors: dict[int, int] = {}
        """Of each handle of the model."""
        self.new = -1
        """Just opened, and not among those yet."""

    def path(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    def do(self, operation: Operation) -> Outcome:
        try:
            return self._do(operation)
        except OSError as error:
            return Outcome(number_of(error))

    def _do(self, operation: Operation) -> Outcome:
        descriptor, path = self.descriptors.get(operation.handle, -1), self.path(operation.path)
        match operation.what:
            case "open":
                self.new = os.open(path, FLAGS[operation.mode], 0o644)
            case "write":
                return self._write(descriptor, operation)
            case "read":
                assert operation.offset is not None
                return read(descriptor, operation.offset, operation.size)
            case "flush":
                os.close(os.dup(descriptor))
            case "close":
                del self.descriptors[operation.handle]
                os.close(descriptor)
            case "fsync":
                os.fsync(descriptor)
            case "stat":
                return Outcome(size=os.fstat(descriptor).st_size)
            case "cut handle":
                os.ftruncate(descriptor, operation.size)
            case "cut":
                os.truncate(path, operation.size)
            case "unlink":
                os.unlink(path)
            case "rmdir":
                os.rmdir(path)
            case "mkdir":
                os.mkdir(path)
            case "rename":
                os.rename(path, self.path(operation.to))
            case "forget":
                Path("/proc/sys/vm/drop_caches").write_text("3\n")
            case what if what.startswith("outside"):
                return self._outside(operation)
            case _:
                pass  # time passes by itself
        return Outcome()

    def _write(self, descriptor: int, operation: Operation) -> Outcome:
        done = 0
        while done < len(operation.data):
            rest = operation.data[done:]
            try:
                if operation.offset is None:
                    done += os.write(descriptor, rest)
                else:
                    done += os.pwrite(descriptor, rest, operation.offset + done)
            except OSError as error:
                return Outcome(number_of(error), size=done)
        return Outcome(size=done)

    def _outside(self, operation: Operation) -> Outcome:
        key = operation.path.decode()
        try:
            if operation.what == "outside delete":
                self.bucket.delete_object(key)
                if isinstance(self.bucket, S3Bucket):
                    self.bucket.sweep(key)
            elif operation.what == "outside append":
                if isinstance(self.bucket, S3Bucket):
                    return Outcome(errno.EIO)  # which it has not
                there = self.object(operation.path)
                self.bucket.append_object(key, len(there or b""), operation.data)
            else:
                self.bucket.put_object(key, operation.data)
        except (oss2.exceptions.PositionNotEqualToLength, oss2.exceptions.ObjectNotAppendable):
            return Outcome(errno.EIO)
        return Outcome()

    # What is to be compared

    def size(self, path: bytes) -> Outcome:
        try:
            return Outcome(size=os.stat(self.path(path)).st_size)
        except OSError as error:
            return Outcome(number_of(error))

    def object(self, key: bytes) -> bytes | None:
        try:
            return bytes(self.bucket.get_object(key.decode()).read())
        except (oss2.exceptions.NoSuchKey, KeyError):
            return None

    def objects(self) -> dict[bytes, bytes]:
        """Every object, as the second client reads it."""
        if isinstance(self.bucket, S3Bucket):
            keys = list(self.bucket.keys())
        else:
            keys = [entry.key for entry in oss2.ObjectIterator(self.bucket)]
        found = {key.encode(): self.object(key.encode()) for key in keys}
        return {key: data for key, data in found.items() if data is not None}

    def tree(self, look_at: Callable[[bytes], bool]) -> dict[bytes, Seen]:
        """Walk everything; read the files that are to be looked at."""
        found: dict[bytes, Seen] = {}
        directories = [b""]
        while directories:
            around = directories.pop()
            for name in sorted(os.listdir(self.path(around))):
                path = below(around) + name
                assert path not in found, "listed twice"
                if os.path.isdir(self.path(path)):
                    directories.append(path)
                    found[path] = Seen(None)
                else:
                    found[path] = self._file(path, look_at)
        return found

    def _file(self, path: bytes, look_at: Callable[[bytes], bool]) -> Seen:
        size = self.size(path)
        if size.errno or not look_at(path):
            return Seen(size.size, None, size.errno)
        try:
            descriptor = os.open(self.path(path), os.O_RDONLY)
        except OSError as error:
            return Seen(size.size, None, number_of(error))
        try:
            came = read(descriptor, 0, size.size + 1)
        finally:
            os.close(descriptor)
        return Seen(size.size, came.data if not came.errno else None, came.errno)

    def abandon(self) -> None:
        """Close what a failure left open, so that the mount can be left."""
        for descriptor in (*self.descriptors.values(), self.new):
            with suppress(OSError):
                os.close(descriptor)


def number_of(error: OSError) -> int:
    """The errno of a failed call."""
    return error.errno or errno.EIO


def read(descriptor: int, offset: int, size: int) -> Outcome:
    """Read to the end or `size` bytes."""
    data = b""
    while len(data) < size:
        try:
            piece = os.pread(descriptor, min(BLOCK, size - len(data)), offset + len(data))
        except OSError as error:
            return Outcome(number_of(error), data)
        if not piece:
            break
        data += piece
    return Outcome(data=data)


class Run:
    """A machine and the model of it."""

    def __init__(self, machine: Machine, mode: Mode) -> None:
        self.machine = machine
        self.model = Model(mode, time.monotonic)
        self.performed: list[Operation] = []

    def perform(self, operation: Operation) -> None:
        """Do one thing, and all that makes its outcome certain."""
        model, machine = self.model, self.machine
        self.performed.append(operation)
        handle = model.handles.get(operation.handle)
        file = handle.file if handle is not None else None
        number = model.happened(operation, machine.do(operation))
        if number:
            machine.descriptors[number], machine.new = machine.new, -1
        if operation.what == "read" and file is not None and file.unfinished and model.ships(file):
            self._settle(lambda: self._look_at_object(file.path))
        for marker in list(model.perhaps):
            self._look_at_object(marker)
        model.perhaps.clear()
        self._look_up_touched()
        self._find_out_what_is_lost()

    def _look_at_object(self, key: bytes) -> None:
        self.model.saw_object(key, self.machine.object(key), {key})

    def _look_up_touched(self) -> None:
        for path in sorted(self.model.touched):
            self.model.looked_up(path, self.machine.size(path))
        self.model.settled()

    def _find_out_what_is_lost(self) -> None:
        model = self.model
        if model.mode.random:
            return  # nothing of a stage is sent before it is completed
        for file in list(model.files):
            elsewhere = file.grows and not file.attached  # another file may append to that object
            doubtful = elsewhere or model.lost(file) or model.unsure(file)
            if doubtful and file.unfinished and model.ships(file):
                self.perform(Operation("fsync", handle=file.handles[0].number))

    def _settle(self, look: Callable[[], None]) -> None:
        """Look until the model agrees: what is appended goes on by itself."""
        limit = time.monotonic() + SETTLED_WITHIN_S
        while True:
            try:
                look()
                return
            except AssertionError:
                if not self.model.mode.grows or time.monotonic() > limit:
                    raise
                time.sleep(0.02)

    def compare(self, *, deeply: bool) -> None:
        """Hold all names and bytes, then all objects against the model."""
        model, machine = self.model, self.machine
        self._settle(lambda: model.saw_bucket(machine.objects(), set()))
        seen = machine.tree(lambda path: deeply or model.readable(path))
        model.saw_tree(seen)
        self._settle(lambda: model.saw_bucket(machine.objects(), set(seen) if deeply else set()))
        self._look_up_touched()
        self._find_out_what_is_lost()

    def _collides(self, operation: Operation) -> bool:
        """Say whether a key would be put above or below another, which a filer cannot have.

        By the second client, or by a directory at a name for which an object is still on its way.
        """
        if not self.model.mode.filer:
            return False
        if operation.what in ("mkdir", "rename"):
            path = operation.to or operation.path
            on_their_way = {file.path for file in self.model.files if file.unfinished}
            return any(below(one).startswith(below(path)) for one in on_their_way)
        if not operation.what.startswith("outside put"):
            return False
        path = operation.path
        others = {*self.model.bucket, *(file.path for file in self.model.files)}
        return any(
            other.startswith(below(path)) or path.startswith(other.rstrip(b"/") + b"/")
            for other in others
            if not (other.endswith(b"/") and path.startswith(other))
        )

    def all(self, seed: int) -> None:
        numbers = random.Random(seed)
        planner = Planner(self.model)
        for step in range(STEPS):
            what = numbers.choice(WHATS)
            operation = planner.operation(what, numbers.getrandbits(20), numbers.getrandbits(20))
            if operation is not None and not self._collides(operation):
                self.perform(operation)
            if step % COMPARED_EVERY == 0:
                self.compare(deeply=step % (2 * COMPARED_EVERY) == 0)
        for number in list(self.machine.descriptors):
            self.perform(Operation("close", handle=number))
        self.compare(deeply=True)


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    return chosen


@pytest.fixture
def store(mode: Mode) -> str:
    return "s3" if mode.name.startswith("s3-") else "oss"


@pytest.mark.timeout(300)
def test_a_mount_is_what_the_model_says_after_a_long_random_run(
    mode: Mode, mount: MountMaker, bucket: oss2.Bucket | S3Bucket, tmp_path: Path
) -> None:
    print(f"OSSFS_MODEL_SEED={SEED} repeats this")
    stage = tmp_path / "stage"
    stage.mkdir()
    part = f"upload_buffer_size={mode.part}"
    mounted = mount("attr_timeout=0", part, *_options(mode, stage))
    machine = Machine(mounted, bucket)
    run = Run(machine, mode)
    try:
        run.all(SEED)
        wait_until(lambda: not _uploads_in(bucket))
    except BaseException:
        print("the last operations:", *run.performed[-40:], sep="\n")
        print("open:", *run.model.files, sep="\n")
        raise
    finally:
        machine.abandon()
    mounted.unmount()
    assert machine.objects() == run.model.bucket
    assert [path.name for path in stage.glob("stage-*")] == []
    assert len(run.performed) > STEPS // 2


def _uploads_in(bucket: oss2.Bucket | S3Bucket) -> int:
    if isinstance(bucket, S3Bucket):
        return bucket.uploads()
    return len(list(oss2.MultipartUploadIterator(bucket)))


def _options(mode: Mode, stage: Path) -> Iterator[str]:
    if mode.random:
        yield f"temp_dir={stage}"
    if mode.grows:
        yield "enable_appendable_object=true"
        yield f"appendable_object_autoswitch_threshold={2 * PART}"
