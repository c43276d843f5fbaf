"""Many processes on one bucket: what one has closed the next finds, and nobody waits for ever.

The processes are real ones. They are told what to do, and when, through pipes, never through the
mounts that they test; every answer has a deadline.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.mount import Mount, wait_until

ANSWER_S = 30.0
"""No step takes as long, on a busy machine, unless something hangs."""

WORKER = """
import errno, json, os, subprocess, sys, time

def pass_on(before, expected, after, text):
    # Read what the last one wrote, and leave a message for the next.
    with open(before, "rb") as file:
        seen = file.read().decode()
    if seen == expected:
        with open(after, "wb") as file:
            file.write(text.encode())
    return seen

def attempt(call, *words):
    try:
        call(*words)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def put(path, content, flags):
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
    try:
        os.write(file, content)
    except BaseException:
        attempt(os.close, file)
        raise
    os.close(file)

def build(root, rank, at):
    # What every rank of a job does when it starts, all at the same moment.
    time.sleep(max(0.0, at - time.monotonic()))
    deep = os.path.join(root, "a", "b", "c")
    if rank % 2:
        subprocess.run(["mkdir", "-p", deep], check=True)
    else:
        os.makedirs(deep, exist_ok=True)
    put(os.path.join(deep, f"rank-{rank}"), str(rank).encode(), os.O_TRUNC)
    lock = attempt(put, os.path.join(root, "lock"), str(rank).encode(), os.O_EXCL)
    same = attempt(put, os.path.join(root, "same"), str(rank).encode() * 50_000, os.O_TRUNC)
    return lock, same

def see(root, ranks):
    # What is there once all are through.
    deep = os.path.join(root, "a", "b", "c")
    def content(*names):
        with open(os.path.join(*names), "rb") as file:
            return file.read().decode()
    same = content(root, "same")
    return {
        "names": sorted(os.listdir(root)),
        "deep": sorted(os.listdir(deep)),
        "ranks": [content(deep, f"rank-{rank}") for rank in range(ranks)],
        "lock": content(root, "lock"),
        "same": [sorted(set(same)), len(same)],
    }

def repeated(step):
    # Take a step again and again for some seconds; return how often.
    def steps(seconds, *words):
        end, turn = time.monotonic() + seconds, 0
        state = step(*words)
        while time.monotonic() < end:
            next(state)
            turn += 1
        state.close()
        return turn
    return steps

@repeated
def find(root, files):
    while True:
        found = subprocess.run(["find", root, "-name", "file-*", "-type", "f"], capture_output=True)
        assert found.returncode == 0, found.stderr
        assert found.stdout.count(b"\\n") == files, found.stdout
        yield

@repeated
def create(directory):
    turn = 0
    while True:
        path = os.path.join(directory, f"new-{turn % 30}")
        content = b"%d" % turn
        put(path, content, os.O_TRUNC)
        with open(path, "rb") as file:
            assert file.read() == content
        if turn % 3 == 0:
            os.unlink(path)
            assert not os.path.exists(path)
        turn += 1
        yield

@repeated
def rename(directory):
    put(os.path.join(directory, "moved-0"), b"moved", os.O_TRUNC)
    turn = 0
    while True:
        old, new = (os.path.join(directory, f"moved-{turn + more}") for more in (0, 1))
        os.rename(old, new)
        assert not os.path.exists(old)
        with open(new, "rb") as file:
            assert file.read() == b"moved"
        turn += 1
        yield

@repeated
def read(root, directories, files):
    while True:
        for directory in range(directories):
            for number in range(files):
                path = os.path.join(root, f"dir-{directory}", f"file-{number}")
                assert os.stat(path).st_size == 1000
                with open(path, "rb") as file:
                    assert file.read() == b"%d" % (number % 10) * 1000
            yield

@repeated
def hold(reading, writing):
    # Two files that stay open: one is read, one is written, over and over.
    with open(reading, "rb", buffering=0) as old, open(writing, "wb", buffering=0) as new:
        before, size = os.fstat(old.fileno()), 0
        while True:
            assert os.pread(old.fileno(), 2000, 0) == b"0" * 1000
            now = os.fstat(old.fileno())
            assert (now.st_ino, now.st_size, now.st_mtime_ns) == (
                before.st_ino, before.st_size, before.st_mtime_ns)
            size += new.write(b"w" * 100)
            assert os.fstat(new.fileno()).st_size == os.stat(writing).st_size == size
            os.fsync(new.fileno())
            yield

@repeated
def dwell(directory):
    os.chdir(directory)
    inode = os.stat(".").st_ino
    while True:
        assert os.getcwd() == directory
        assert os.stat(".").st_ino == inode
        assert "file-0" in os.listdir()
        with open("file-0", "rb") as file:
            assert file.read() == b"0" * 1000
        with open("here", "wb") as file:
            file.write(b"1")
        os.unlink("here")
        yield

for line in sys.stdin:
    name, *words = json.loads(line)
    try:
        answer = {"ok": globals()[name](*words)}
    except BaseException as error:
        import traceback
        answer = {"failed": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""


class Worker:
    """A process that takes steps when told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def tell(self, step: str, *words: object) -> None:
        """Have it begin a step, a function of WORKER."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([step, *words]).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, seconds: float = ANSWER_S) -> Any:
        """Return what the step returned; fail with its traceback, or when it takes too long."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        assert ready, "a process hangs"
        told = json.loads(self._process.stdout.readline())
        assert "failed" not in told, told["failed"]
        return told["ok"]

    def ask(self, step: str, *words: object) -> Any:
        self.tell(step, *words)
        return self.answer()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=ANSWER_S)


@pytest.fixture
def workers(mount: MountMaker) -> Iterator[Callable[[int], Sequence[Worker]]]:
    """Start processes; they end before the mounts do."""
    with ExitStack() as stack:

        def start(count: int) -> Sequence[Worker]:
            started = [Worker() for _ in range(count)]
            for worker in started:
                stack.callback(worker.end)
            return started

        yield start


Workers = Callable[[int], Sequence[Worker]]


# Handing on


@pytest.mark.parametrize("options", ["preset=consistent", "close_to_open,attr_timeout=60"])
def test_a_message_passed_a_thousand_times_is_never_read_stale(
    bucket: oss2.Bucket, mount: MountMaker, workers: Workers, options: str
) -> None:
    mounts = [mount(options).path, mount(options).path]
    processes = workers(4)
    # Every pair of neighbours takes its turn: on one mount, and on two.
    order = [(0, 0), (1, 1), (2, 0), (3, 1), (1, 1), (3, 1), (0, 0), (2, 0)]
    bucket.put_object("message-2", b"turn 0000")
    for turn in range(1, 1001):
        process, where = order[turn % len(order)]
        expected = f"turn {turn - 1:04d}"
        seen = processes[process].ask(
            "pass_on",
            str(mounts[where] / f"message-{(turn + 1) % 3}"),
            expected,
            str(mounts[where] / f"message-{(turn + 2) % 3}"),
            f"turn {turn:04d}",
        )
        assert seen == expected


def test_without_close_to_open_a_message_is_read_stale_until_attr_timeout_is_over(
    bucket: oss2.Bucket, mount: MountMaker, workers: Workers
) -> None:
    bucket.put_object("message", b"turn 0")
    here, there = (str(mount("attr_timeout=2").path / "message") for _ in range(2))
    writer, reader = workers(2)
    for turn in range(1, 3):
        before, after = f"turn {turn - 1}", f"turn {turn}"
        begun = time.monotonic()
        assert reader.ask("pass_on", there, "", "", "") == before
        first = time.monotonic()
        assert writer.ask("pass_on", here, before, here, after) == before
        seen = reader.ask("pass_on", there, "", "", "")
        if time.monotonic() < begun + 2:
            assert seen == before
        left = first + 2 + 1 - time.monotonic()
        wait_until(lambda after=after: reader.ask("pass_on", there, "", "", "") == after, left)
        # So that the next turn begins with fresh attributes on the other mount as well.
        wait_until(lambda after=after: writer.ask("pass_on", here, "", "", "") == after)


# Starting at once


@pytest.mark.parametrize("preset", ["consistent", "distributed"])
def test_eight_processes_that_start_at_once_agree_on_what_is_there(
    mount: MountMaker, workers: Workers, preset: str
) -> None:
    mounts = [mount(f"preset={preset}").path for _ in range(2)]
    processes = workers(8)
    for turn in range(8):
        roots = [str(mounts[rank % 4 // 2] / f"job-{turn}") for rank in range(8)]
        at = time.monotonic() + 0.02
        for rank, process in enumerate(processes):
            process.tell("build", roots[rank], rank, at)
        built = [process.answer() for process in processes]
        locks = [lock for lock, _ in built]
        assert sorted(locks) == ["EEXIST"] * 7 + ["done"], locks
        # On one mount the second to open it for writing is refused while the first is at work; and
        # the kernel looks a name up again only once, however often it changes meanwhile.
        wrote = [rank for rank, (_, same) in enumerate(built) if same == "done"]
        assert wrote, built
        assert {same for _, same in built} <= {"done", "EBUSY", "ESTALE"}, built
        for rank, process in enumerate(processes):
            process.tell("see", roots[rank], 8)
        views = [process.answer() for process in processes]
        assert views == [views[0]] * 8
        assert views[0] == {
            "names": ["a", "lock", "same"],
            "deep": [f"rank-{rank}" for rank in range(8)],
            "ranks": [str(rank) for rank in range(8)],
            "lock": str(locks.index("done")),
            "same": views[0]["same"],
        }
        letters, size = views[0]["same"]
        assert size == 50_000
        assert letters in [[str(rank)] for rank in wrote]


# Forgetting while at work


def inodes(mounted: Mount) -> int:
    return int(mounted.statistics()["inodes"])


def test_inodes_are_evicted_beside_every_kind_of_work(
    bucket: oss2.Bucket, mount: MountMaker, workers: Workers
) -> None:
    for directory in range(5):
        for number in range(40):
            bucket.put_object(f"dir-{directory}/file-{number}", b"%d" % (number % 10) * 1000)
    mounted = mount("inode_cache_eviction_threshold=10,inode_cache_eviction_interval_ms=10")
    root = mounted.path
    seconds = 8.0
    steps: list[tuple[object, ...]] = [
        ("find", seconds, str(root), 200),
        ("create", seconds, str(root / "dir-0")),
        ("rename", seconds, str(root / "dir-1")),
        ("read", seconds, str(root), 5, 40),
        ("hold", seconds, str(root / "dir-2" / "file-0"), str(root / "dir-2" / "held")),
        ("dwell", seconds, str(root / "dir-3")),
    ]
    processes = workers(len(steps))
    for process, step in zip(processes, steps, strict=True):
        process.tell(*step)
    turns = {step[0]: process.answer() for process, step in zip(processes, steps, strict=True)}
    assert min(turns.values()) >= 3, turns
    # What is left besides directories: nobody has a file open any more.
    wait_until(lambda: inodes(mounted) <= 10)
    assert bucket.get_object("dir-2/held").read() == b"w" * 100 * turns["hold"]
    assert len(list((root / "dir-4").iterdir())) == 40
