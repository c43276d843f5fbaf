"""Chunks on a local disk: never a wrong byte, never more than may lie there, nobody's failure."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ossfs.reading import chunks
from ossfs.reading import disk as module
from ossfs.reading.content import Content
from ossfs.reading.disk import FOLDER, INDEX_BYTES, LOCK, REST, DiskCache, Shelf
from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.metrics import Metrics
from ossfs.store.errors import Changed
from tests.support.core import MIB, Core, core
from tests.support.disk import roomy, run

SIZE = 5_000
"""Of a chunk in most tests: two pages on the disk."""
PAGES = 8_192
BACKLOG = 64 * MIB
TRAILER = 40
DATA = random.Random(11).randbytes(6 * BLOCK + 777)

ExpectLog = Callable[[str], None]


@dataclass
class Made:
    """A disk cache, and what it tells others."""

    disk: DiskCache
    directory: Path
    metrics: Metrics
    memory: int = 0
    clock: float = 100.0
    charges: list[int] = field(default_factory=list)

    def shelf(self, key: bytes = b"key", etag: str = "etag", size: int = 1 << 30) -> Shelf:
        shelf = self.disk.shelf(key, etag, size)
        assert shelf is not None
        return shelf

    def files(self) -> list[Path]:
        return files_in(self.directory)

    @property
    def used(self) -> int:
        return int(self.disk.statistics()["bytes"])

    def told(self) -> tuple[int, int, bool]:
        told = self.disk.statistics()
        return told["bytes"], told["chunks"], bool(told["off"])

    def sound(self) -> bool:
        """Whether what is told is what is there."""
        told = self.disk.statistics()
        return (
            told["bytes"] == on_disk(self.directory)
            and told["chunks"] == len(self.files())
            and sum(self.charges) == INDEX_BYTES * told["chunks"]
        )


def files_in(directory: Path) -> list[Path]:
    return [path for path in (directory / FOLDER).rglob("*") if path.is_file()]


def on_disk(directory: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files_in(directory))


@contextmanager
def disk_at(
    directory: Path,
    *,
    size: int = 64 * MIB,
    floor: int = 0,
    largest: int = -1,
    bucket: str = "bucket",
    statvfs: Callable[[str], os.statvfs_result] = roomy,
) -> Iterator[Made]:
    directory.mkdir(exist_ok=True)
    metrics, charges = Metrics(), list[int]()
    made: Made
    disk = DiskCache(
        str(directory),
        size=size,
        floor=floor,
        largest=largest,
        bucket=bucket,
        metrics=metrics,
        charge=charges.append,
        most=MIB,
        backlog=BACKLOG,
        now=lambda: made.clock,
        statvfs=statvfs,
    )
    made = Made(disk, directory, metrics, charges=charges)
    try:
        yield made
    finally:
        disk.close()


def body(mark: object, size: int = SIZE) -> bytes:
    return random.Random(repr(mark)).randbytes(size)


async def keep(shelf: Shelf, unit: int, data: bytes | None = None) -> bool:
    return await shelf.write(unit, [memoryview(body(unit) if data is None else data)])


async def look(shelf: Shelf, unit: int, size: int = SIZE) -> bytes | None:
    """Return the bytes of a unit, None for a miss."""
    view, filled = memoryview(bytearray(size)), list[int]()
    missing = await shelf.read(unit, [view], filled.append)
    assert (missing, filled) in (([0], []), ([], [0]))
    return None if missing else bytes(view)


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


class Held:
    """Stands in for a function that runs in threads: holds calls until `go`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str = "write") -> None:
        self.go = threading.Event()
        self.calls = 0
        inner: Callable[..., Any] = getattr(chunks, name)

        def held(*arguments: Any) -> Any:
            self.calls += 1
            self.go.wait(5)
            return inner(*arguments)

        monkeypatch.setattr(chunks, name, held)


# What is kept and found


def test_what_was_written_is_read_and_the_rest_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            shelf = made.shelf()
            data = [body(unit) for unit in range(3)] + [b"short"]
            assert await shelf.write(4, [memoryview(piece) for piece in data])
            views = [memoryview(bytearray(size)) for size in (SIZE, SIZE, SIZE, SIZE, 5, SIZE)]
            filled: list[int] = []
            assert await shelf.read(3, views, filled.append) == [0, 5]
            assert filled == [1, 2, 3, 4]
            assert [bytes(view) for view in views[1:5]] == data
            assert [shelf.has(unit) for unit in (3, 4, 7, 8)] == [False, True, True, False]
            assert made.used == 3 * PAGES + 4096
            assert made.sound()
            counts = made.metrics.snapshot()
            assert counts["disk_cache_written_bytes"] == 3 * SIZE + 5
            assert counts["disk_cache_read_bytes"] == 3 * SIZE + 5
            assert counts["disk_cache_missed_bytes"] == 2 * SIZE

    run(main)


@pytest.mark.parametrize("scanned", [True, False])
def test_the_next_mount_finds_it_even_before_it_has_looked(tmp_path: Path, scanned: bool) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await keep(made.shelf(), 1)
        with disk_at(tmp_path) as made:
            if scanned:
                await made.disk.scan()
            assert await look(made.shelf(), 1) == body(1)
            assert await look(made.shelf(), 2) is None
            await made.disk.scan()
            assert made.sound()

    run(main)


@pytest.mark.parametrize(
    "other", [{"key": b"other"}, {"etag": "other"}, {"bucket": "other"}, {"unit": 2}], ids=str
)
@pytest.mark.parametrize("scanned", [True, False])
def test_another_name_is_another_chunk(
    tmp_path: Path, other: dict[str, Any], scanned: bool
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await keep(made.shelf(), 1)
        with disk_at(tmp_path, bucket=other.pop("bucket", "bucket")) as made:
            if scanned:
                await made.disk.scan()
            unit = other.pop("unit", 1)
            found = await look(made.shelf(**other), unit)
            same = not other and unit == 1 and made.disk._bucket == b"bucket"
            assert (found is not None) is same

    run(main)


def test_parts_of_a_name_do_not_run_into_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await keep(made.shelf(b"ab", "c"), 0)
            assert await look(made.shelf(b"a", "bc"), 0) is None

    run(main)


def test_objects_too_large_or_of_no_version_have_no_place(tmp_path: Path) -> None:
    with disk_at(tmp_path, largest=1000) as made:
        assert made.disk.shelf(b"key", "etag", 1000) is not None
        assert made.disk.shelf(b"key", "etag", 1001) is None
        assert made.disk.shelf(b"key", "", 10) is None


# Damage


def damages(length: int) -> Iterator[Callable[[bytes], bytes]]:
    rng = random.Random(2)
    data = length - TRAILER
    for place in [0, data - 1, *range(data, length), *rng.sample(range(1, data - 1), 10)]:
        for mask in (1, 0x80, 0xFF):
            yield (
                lambda raw, place=place, mask=mask: (  # type: ignore[misc]
                    raw[:place] + bytes([raw[place] ^ mask]) + raw[place + 1 :]
                )
            )
    for cut in [0, 1, data - 1, *range(data, length), *rng.sample(range(2, data - 1), 5)]:
        yield lambda raw, cut=cut: raw[:cut]  # type: ignore[misc]
    yield lambda raw: bytes(len(raw))  # what a file system shows after the power failed
    yield lambda raw: raw[TRAILER:] + raw[:TRAILER]


def test_no_damage_is_read_and_each_is_told_and_removed(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("was damaged; its bytes are fetched again")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            shelf, count = made.shelf(), 0
            for damage in damages(SIZE + TRAILER):
                assert await keep(shelf, 3)
                (path,) = made.files()
                path.write_bytes(damage(path.read_bytes()))
                assert await look(shelf, 3) is None
                count += 1
                assert made.metrics.snapshot()["disk_cache_damaged"] == count
                assert made.files() == []
                assert (made.used, sum(made.charges)) == (0, 0)
            assert count > 100

    run(main)


def test_one_chunk_in_anothers_place_or_of_another_size_is_no_hit(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("was damaged")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            await keep(made.shelf(), 1)
            (path,) = made.files()
            await keep(made.shelf(), 2)
            (other,) = set(made.files()) - {path}
            path.replace(other)
            assert await look(made.shelf(), 2) is None
            await keep(made.shelf(), 1)
            assert await look(made.shelf(), 1, SIZE - 1) is None
            await keep(made.shelf(), 1)
            assert await look(made.shelf(), 1, SIZE + 1) is None

    run(main)


def test_damage_among_neighbours_costs_them_nothing(tmp_path: Path, expect_log: ExpectLog) -> None:
    expect_log("was damaged")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            paths: list[Path] = []
            for unit in range(4):
                await keep(made.shelf(), unit)
                paths += set(made.files()) - set(paths)
            paths[1].write_bytes(b"")
            paths[2].unlink()
            views = [memoryview(bytearray(SIZE)) for _ in range(4)]
            assert await made.shelf().read(0, views, lambda _index: None) == [1, 2]
            assert (bytes(views[0]), bytes(views[3])) == (body(0), body(3))
            assert made.sound()

    run(main)


# What gives way


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path, size=4 * PAGES) as made:
            await made.disk.scan()
            shelf = made.shelf()
            for unit in range(4):
                await keep(shelf, unit)
            assert await look(shelf, 0) == body(0)
            await keep(shelf, 4)
            await keep(shelf, 5)
            assert [shelf.has(unit) for unit in range(6)] == [True, False, False, True, True, True]
            assert made.metrics.snapshot()["disk_cache_evicted"] == 2
            assert made.sound()

    run(main)


def test_the_order_of_use_outlives_the_mount(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            names: dict[Path, int] = {}
            for unit in range(4):
                await keep(made.shelf(), unit)
                (path,) = set(made.files()) - set(names)
                names[path] = unit
            for path, unit in names.items():
                os.utime(path, (1000, 1000 + unit))
            assert await look(made.shelf(), 0) == body(0)
        with disk_at(tmp_path, size=4 * PAGES) as made:
            await made.disk.scan()
            assert made.used == 4 * PAGES
            await keep(made.shelf(), 9)
            assert [made.shelf().has(unit) for unit in range(4)] == [True, False, True, True]
        with disk_at(tmp_path, size=2 * PAGES) as made:
            await made.disk.scan()
            assert made.sound()
            assert [made.shelf().has(unit) for unit in (0, 3, 9)] == [True, False, True]

    run(main)


def test_never_more_than_may_lie_there(tmp_path: Path) -> None:
    async def main() -> None:
        rng, limit = random.Random(4), 50_000
        with disk_at(tmp_path, size=limit) as made:
            await made.disk.scan()
            for unit in range(60):
                sizes = [rng.choice([1, 4056, 4057, 9_000]) for _ in range(rng.randrange(1, 4))]
                views = [memoryview(body(unit, size)) for size in sizes]
                assert await made.shelf().write(unit * 10, views)
                assert on_disk(tmp_path) <= limit
                assert made.sound()

    run(main)


def test_the_floor_of_the_disk_is_kept_by_giving_way_then_by_resting(
    tmp_path: Path, expect_log: ExpectLog, caplog: pytest.LogCaptureFixture
) -> None:
    expect_log("nothing is kept for now .*disk_data_cache_size and disk_available_space")
    others = 0

    def statvfs(_path: str) -> os.statvfs_result:
        free = 100 - (on_disk(tmp_path) + others) // 4096
        return os.statvfs_result((4096, 4096, 100, free, free, 0, 0, 0, 0, 255, 0))

    async def main() -> None:
        nonlocal others
        with disk_at(tmp_path, floor=80 * 4096, statvfs=statvfs) as made:
            await made.disk.scan()
            shelf = made.shelf()
            for unit in range(30):
                assert await keep(shelf, unit)
                assert statvfs("").f_bavail >= 80
            assert [unit for unit in range(30) if shelf.has(unit)] == list(range(20, 30))
            others = 10 * 4096
            while await keep(shelf, unit):  # it need not look before each
                unit += 1
                assert unit < 50
                if len(made.files()) == 5:
                    break
            assert statvfs("").f_bavail >= 80
            others = 30 * 4096
            for _ in range(3):
                assert not await keep(shelf, 99)
            assert not shelf.has_room(1)
            assert made.files() == []
            others = 0
            made.clock += REST - 1
            assert not await keep(shelf, 99)
            made.clock += 1
            assert shelf.has_room(1)
            assert await keep(shelf, 99)
            assert made.sound()

    run(main)
    assert len([record for record in caplog.records if "for now" in record.message]) == 1


# Disks that are full, failing or slow


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_rests_the_writing_and_loses_nothing(
    tmp_path: Path,
    expect_log: ExpectLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    expect_log("nothing is kept for now")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            await keep(made.shelf(), 0)
            inner, room = os.writev, 2

            def writev(file: int, buffers: Any) -> int:
                nonlocal room
                room -= 1
                if room < 0:
                    raise OSError(number, "full")
                return inner(file, buffers)

            with monkeypatch.context() as patch:
                patch.setattr(os, "writev", writev)
                views = [memoryview(body(unit)) for unit in range(1, 5)]
                assert not await made.shelf().write(1, views)
                assert not await keep(made.shelf(), 9)
            assert not made.shelf().has_room(1)
            assert await look(made.shelf(), 0) == body(0)
            assert made.sound(), "the chunks before the full one are there, and nobody counts them"
            made.clock += REST
            assert await keep(made.shelf(), 9)
            assert made.sound()

    run(main)
    assert len(caplog.records) == 1


def test_a_write_cut_short_is_a_full_disk(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("nothing is kept for now")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            inner = os.writev
            monkeypatch.setattr(os, "writev", lambda file, buffers: inner(file, buffers[:1]))
            assert not await keep(made.shelf(), 0)
            assert made.files() == []

    run(main)


@pytest.mark.parametrize("call", ["_read_chunk", "_write_chunk", "scan"])
def test_what_nobody_has_foreseen_ends_the_cache_and_not_the_mount(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    expect_log("internal error of the disk cache")
    expect_log("the cache is off until the next mount: internal error: MemoryError()")

    def failing(*_: Any) -> Any:
        raise MemoryError

    async def main() -> None:
        with disk_at(tmp_path) as made:
            shelf = made.shelf()
            await keep(shelf, 0)
            monkeypatch.setattr(chunks, call, failing)
            await made.disk.scan()
            assert await look(shelf, 0) == (None if call != "_write_chunk" else body(0))
            assert not await keep(shelf, 1)
            assert made.disk.statistics()["off"]

    run(main)


def test_a_passing_lack_of_descriptors_rests_the_writing_alone(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("nothing is kept for now .Too many open files")

    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            await keep(made.shelf(), 0)
            with monkeypatch.context() as patch:
                patch.setattr(os, "open", _raising(errno.EMFILE))
                assert await look(made.shelf(), 0) is None
            assert await look(made.shelf(), 0) == body(0)
            assert not await keep(made.shelf(), 1)
            made.clock += REST
            assert await keep(made.shelf(), 1)

    run(main)


def _raising(number: int) -> Callable[..., Any]:
    def failing(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


def _fail(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(os, name, _raising(errno.EIO))


@pytest.mark.parametrize("call", ["open", "writev", "preadv", "rename", "statvfs", "unlink"])
def test_a_failing_disk_is_done_without(
    tmp_path: Path,
    expect_log: ExpectLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    expect_log("the cache is off until the next mount: Input/output error")

    async def main() -> None:
        with disk_at(tmp_path, size=4 * PAGES, statvfs=lambda path: os.statvfs(path)) as made:
            await made.disk.scan()
            shelf = made.shelf()
            if call != "statvfs":
                for unit in range(4):
                    await keep(shelf, unit)
            with monkeypatch.context() as patch:
                _fail(patch, call)
                for unit in range(8):
                    if unit % 2:
                        await keep(shelf, unit)
                    else:
                        await look(shelf, unit)
            assert made.told() == (0, 0, True)
            assert sum(made.charges) == 0
            assert await look(shelf, 0) is None
            assert not await keep(shelf, 0)
            assert not shelf.has_room(1)
            assert not shelf.has(0)
            assert made.disk.shelf(b"new", "etag", 1) is None
            await shelf.forget(range(3))
            await made.disk.scan()
            assert sum(made.charges) == 0

    run(main)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_folders_that_are_gone_or_chunks_that_are_none_are_a_failing_disk(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("the cache is off until the next mount")

    async def main() -> None:
        for number, damage in enumerate(["no folders", "a folder"]):
            with disk_at(tmp_path / str(number)) as made:
                await keep(made.shelf(), 0)
                (path,) = made.files()
                folder = path.parent.parent
                if damage == "a folder":
                    path.unlink()
                    path.mkdir()
                else:
                    folder.rename(folder.with_name("away"))
                assert await look(made.shelf(), 0) is None
                if not made.disk.statistics()["off"]:
                    assert not await keep(made.shelf(), 0)
                assert made.disk.statistics()["off"]
                await made.disk.scan()

    run(main)


def test_a_cleared_folder_is_filled_again(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            await keep(made.shelf(), 0)
            for path in made.files():
                path.unlink()
                path.parent.rmdir()
            assert await look(made.shelf(), 0) is None
            assert await keep(made.shelf(), 0)
            assert await look(made.shelf(), 0) == body(0)

    run(main)


def test_no_thread_to_be_had_is_a_miss_and_nobodys_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            await keep(made.shelf(), 0)

            async def none(*_: Any, **__: Any) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patch:
                patch.setattr(trio.to_thread, "run_sync", none)
                assert await look(made.shelf(), 0) is None
                assert not await keep(made.shelf(), 1)
            assert made.used == PAGES

    run(main)


def test_what_waits_to_be_written_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path, size=1 << 30) as made:
            held, shelf, view = Held(monkeypatch), made.shelf(), memoryview(bytes(8 * MIB))
            async with trio.open_nursery() as nursery:
                for unit in range(BACKLOG // len(view)):
                    assert shelf.has_room(len(view))
                    nursery.start_soon(shelf.write, unit, [view])
                    await trio.testing.wait_all_tasks_blocked()
                assert not shelf.has_room(1)
                assert made.metrics.snapshot()["disk_cache_unwritten_bytes"] == 1
                held.go.set()
            assert shelf.has_room(BACKLOG)
            assert made.sound()

    run(main)


def test_a_slow_disk_does_not_stop_a_small_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its whole size may be on its way there: what is more is not kept, the rest is."""

    async def main() -> None:
        with disk_at(tmp_path, size=4 * PAGES) as made:
            await made.disk.scan()
            held, shelf = Held(monkeypatch), made.shelf()
            async with trio.open_nursery() as nursery:
                for unit in range(6):
                    nursery.start_soon(keep, shelf, unit)
                    await trio.testing.wait_all_tasks_blocked()
                    while made.disk._looking.locked():
                        await trio.sleep(0.001)
                held.go.set()
            assert [unit for unit in range(6) if shelf.has(unit)] == [0, 1, 2, 3]
            assert await keep(shelf, 7), "it rests, though the disk has room"
            assert made.sound()

    run(main)


def test_the_floor_counts_what_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: ExpectLog
) -> None:
    monkeypatch.setattr(module, "LOOK_BYTES", 0)
    expect_log("nothing is kept for now")

    def statvfs(_path: str) -> os.statvfs_result:
        free = 100 - on_disk(tmp_path) // 4096
        return os.statvfs_result((4096, 4096, 100, free, free, 0, 0, 0, 0, 255, 0))

    async def main() -> None:
        with disk_at(tmp_path, floor=90 * 4096, statvfs=statvfs) as made:
            await made.disk.scan()
            held = Held(monkeypatch)
            async with trio.open_nursery() as nursery:
                for unit in range(8):
                    nursery.start_soon(keep, made.shelf(), unit)
                    await trio.testing.wait_all_tasks_blocked()
                    while made.disk._looking.locked():
                        await trio.sleep(0.001)
                held.go.set()
            assert statvfs("").f_bavail >= 90

    run(main)


def test_a_reader_does_not_stand_in_line_behind_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            shelf = made.shelf()
            await keep(shelf, 0)
            held = Held(monkeypatch)
            async with trio.open_nursery() as nursery:
                for unit in range(1, 2 * module.THREADS):
                    nursery.start_soon(keep, shelf, unit)
                await trio.testing.wait_all_tasks_blocked()
                found = None
                with trio.move_on_after(2):
                    found = await look(shelf, 0)
                held.go.set()
            assert found == body(0)

    run(main)


# The scan


def test_the_scan_removes_what_is_unfinished_and_leaves_alone_what_is_not_ours(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            await keep(made.shelf(), 0)
            (path,) = made.files()
        unfinished = [path.with_name("0" * 30 + f".new{number}") for number in (1, 77)]
        foreign = [
            path.with_name("notes.txt"),
            path.with_name("0" * 30 + ".newest"),
            path.with_name("0" * 29),
            path.parent.parent / "README",
            tmp_path / "mine",
        ]
        for each in unfinished + foreign:
            each.write_bytes(b"?")
        with disk_at(tmp_path) as made:
            await made.disk.scan()
            assert not any(each.exists() for each in unfinished)
            assert all(each.exists() for each in foreign)
            assert made.told() == (PAGES, 1, False)

    run(main)


def test_what_is_written_before_the_scan_ends_is_younger_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            for unit in range(4):
                await keep(made.shelf(), unit)
        with disk_at(tmp_path, size=6 * PAGES) as made:
            held, shelf = Held(monkeypatch, "scan"), made.shelf()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.disk.scan)
                await until(lambda: held.calls)
                await keep(shelf, 0)
                await keep(shelf, 10)
                held.go.set()
            assert made.used == 5 * PAGES
            assert made.sound()
            for unit in (11, 12, 13, 14):
                await keep(shelf, unit)
            assert [shelf.has(unit) for unit in (0, 1, 2, 3, 10)] == [True] + [False] * 3 + [True]
            assert made.sound()

    run(main)


def test_the_scan_leaves_alone_what_is_just_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            reached, go, inner = threading.Event(), threading.Event(), os.writev

            def writev(file: int, buffers: Any) -> int:
                reached.set()
                go.wait(5)
                return inner(file, buffers)

            monkeypatch.setattr(os, "writev", writev)
            kept = None

            async def write() -> None:
                nonlocal kept
                kept = await keep(made.shelf(), 0)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await until(reached.is_set)
                await made.disk.scan()
                go.set()
            assert kept
            assert await look(made.shelf(), 0) == body(0)
            assert made.sound()

    run(main)


def test_what_goes_while_the_scan_looks_is_not_counted_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as made:
            for unit in range(3):
                await keep(made.shelf(), unit)
        with disk_at(tmp_path) as made:
            inner, go, looked = chunks.scan, threading.Event(), threading.Event()

            def scan(*arguments: Any) -> Any:
                found = inner(*arguments)
                looked.set()
                go.wait(5)
                return found

            monkeypatch.setattr(chunks, "scan", scan)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.disk.scan)
                await until(looked.is_set)
                await made.shelf().forget(range(2))
                go.set()
            for unit in range(3):
                assert (await look(made.shelf(), unit) is not None) is (unit == 2)
            assert made.sound()

    run(main)


def test_a_disk_full_of_what_is_not_yet_scanned_is_no_reason_to_rest(tmp_path: Path) -> None:
    """A cache that the floor has bounded is found at its floor by the next mount."""

    def statvfs(_path: str) -> os.statvfs_result:
        free = 100 - on_disk(tmp_path) // 4096
        return os.statvfs_result((4096, 4096, 100, free, free, 0, 0, 0, 0, 255, 0))

    async def main() -> None:
        with disk_at(tmp_path, floor=90 * 4096, statvfs=statvfs) as made:
            for unit in range(8):
                await keep(made.shelf(), unit)
        with disk_at(tmp_path, floor=90 * 4096, statvfs=statvfs) as made:
            await keep(made.shelf(), 10)
            await made.disk.scan()
            assert await keep(made.shelf(), 11)
            assert statvfs("").f_bavail >= 90

    run(main)


# The directory


def test_a_directory_has_one_mount_at_a_time(tmp_path: Path) -> None:
    with disk_at(tmp_path):
        with pytest.raises(UserError) as refused, disk_at(tmp_path):
            pass
        assert str(refused.value) == (
            f"disk_data_cache_dir: {tmp_path} is in use by another mount; give each its own"
        )
        assert refused.value.status == ExitStatus.USAGE
    with disk_at(tmp_path):
        pass


@pytest.mark.parametrize(
    "kind",
    ["missing", "file", "folder is a file", "shard is a file", "open to others", "a link"],
)
def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "cache"
    if kind == "file":
        directory.write_bytes(b"")
    elif kind != "missing":
        directory.mkdir()
        place = directory / FOLDER
        if kind == "shard is a file":
            place.mkdir(0o700)
            place /= "7f"
        if kind == "open to others":
            place.mkdir(0o755)
        elif kind == "a link":
            (directory / "elsewhere").mkdir(0o700)
            place.symlink_to("elsewhere")
        else:
            place.write_bytes(b"")
    for _ in range(2):  # and the lock is not kept
        with pytest.raises(UserError, match=r"^disk_data_cache_dir: .* (cannot|alone)") as refused:
            DiskCache(
                str(directory),
                size=1,
                floor=0,
                largest=-1,
                bucket="bucket",
                metrics=Metrics(),
                charge=lambda _size: None,
                most=MIB,
                backlog=BACKLOG,
                now=lambda: 0.0,
            )
        assert "\n" not in str(refused.value)
        assert refused.value.status == ExitStatus.USAGE


def test_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    async def main() -> None:
        old = os.umask(0)
        try:
            with disk_at(tmp_path) as made:
                await keep(made.shelf(), 0)
                (path,) = made.files()
                modes = [each.stat().st_mode & 0o777 for each in (path, *path.parents[:2])]
                assert modes == [0o600, 0o700, 0o700]
                assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o600
        finally:
            os.umask(old)

    run(main)


# All of it at random


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_read_is_wrong_and_the_count_is_right(
    tmp_path: Path, expect_log: ExpectLog, seed: int
) -> None:
    expect_log("was damaged")
    rng = random.Random(seed)
    limit = 20 * PAGES

    def what(name: int, unit: int) -> bytes:
        return body((name, unit), 3_000 + 977 * unit)

    async def visit(made: Made, name: int, unit: int) -> None:
        """Do as a GET does: look for two units, and keep those that are not there."""
        shelf = made.shelf(b"%d" % name)
        data = [what(name, unit), what(name, unit + 1)]
        views = [memoryview(bytearray(len(piece))) for piece in data]
        filled: list[int] = []
        missing = await shelf.read(unit, views, filled.append)
        assert sorted(missing + filled) == [0, 1]
        for index in filled:
            assert bytes(views[index]) == data[index]
        for index in missing:
            await shelf.write(unit + index, [memoryview(data[index])])

    async def forget(made: Made, name: int, unit: int) -> None:
        await made.shelf(b"%d" % name).forget(range(unit))

    def tamper(made: Made) -> bool:
        """Damage a chunk; say whether it takes another place than it did."""
        paths = made.files()
        if not paths:
            return False
        path = rng.choice(paths)
        raw = bytearray(path.read_bytes())
        kind = rng.randrange(3)
        if kind == 0:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            path.write_bytes(raw)
        elif kind == 1:
            path.write_bytes(raw[: rng.randrange(len(raw))])
        else:
            path.unlink()
        return kind > 0

    async def live(turns: int) -> None:
        """One mount's life: batches of jobs at once, and a look when all is quiet."""
        with disk_at(tmp_path, size=limit) as made:
            tampered = False
            async with trio.open_nursery() as scanning:
                if rng.random() < 0.5:
                    await made.disk.scan()
                else:
                    scanning.start_soon(made.disk.scan)
                async with trio.open_nursery() as nursery:
                    for name in rng.sample(range(6), rng.randrange(3)):
                        nursery.start_soon(visit, made, name, rng.randrange(4))
            for _ in range(turns):
                async with trio.open_nursery() as nursery:
                    pairs = [(name, unit) for name in range(6) for unit in (0, 2)]
                    for name, unit in rng.sample(pairs, rng.randrange(1, 6)):
                        nursery.start_soon(visit, made, name, unit)
                if rng.random() < 0.2:
                    await forget(made, rng.randrange(6), rng.randrange(4))
                assert not made.disk.statistics()["off"]
                assert made.used <= limit
                assert on_disk(tmp_path) <= limit
                assert on_disk(tmp_path) == made.used or tampered
                assert sum(made.charges) == INDEX_BYTES * made.disk.statistics()["chunks"]
                if rng.random() < 0.2:
                    tampered |= tamper(made)

    async def main() -> None:
        for _ in range(8):
            await live(12)

    run(main)


# Contents that have one


def content_of(made: Core, data: bytes = DATA, key: bytes = b"key") -> Content:
    info = made.bucket.head(key, deadline=1e12) if made.stored(key) == data else None
    if info is None:
        made.put(key, data)
        info = made.bucket.head(key, deadline=1e12)
    return Content(made.source, key, info.size, info.etag)


def gets(made: Core) -> list[tuple[int, int]]:
    """(offset, size) of the GETs since the last look."""
    calls = [(call.offset, call.size) for call in made.store.calls if call.op == "get_range_into"]
    made.store.calls.clear()
    return sorted(calls)


async def unit_of(content: Content, number: int) -> bytes:
    cell = await content.cell(number)
    return bytes(cell.block.view[: cell.size])


def unit(number: int, data: bytes = DATA) -> bytes:
    return data[number * BLOCK : (number + 1) * BLOCK]


async def read_all(made: Core, content: Content, step: int = 131_072) -> bytes:
    reader = made.reading.open(content, 2)
    pieces = [bytes(await reader.read(offset, step)) for offset in range(0, content.size, step)]
    reader.close()
    content.drop_all()
    return b"".join(pieces)


def quiet(made: Core) -> bool:
    return made.budget.used == 0


@pytest.mark.parametrize("chunk", [2 * MIB, 8 * MIB])
def test_the_second_reader_of_a_version_costs_no_get(tmp_path: Path, chunk: int) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as kept:
            await kept.disk.scan()
            async with core(chunk=chunk) as made:
                made.source.disk = kept.disk
                assert await read_all(made, content_of(made)) == DATA
                assert sum(size for _, size in gets(made)) == len(DATA)
                await until(lambda: quiet(made))
                assert await read_all(made, content_of(made)) == DATA
                assert gets(made) == []
                await until(lambda: quiet(made))
                assert kept.sound()

    run(main)


def test_just_what_is_missing_is_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as kept:
            async with core() as made:
                made.source.disk = kept.disk
                content = content_of(made)
                for number in (1, 2, 5):
                    assert await unit_of(content, number) == unit(number)
                content.drop_all()
                await until(lambda: quiet(made))
                gets(made)
                content = content_of(made)
                assert content.start(0, 7, prefetch=True) == 7
                for number in range(7):
                    assert await unit_of(content, number) == unit(number)
                assert gets(made) == [
                    (0, BLOCK),
                    (3 * BLOCK, 2 * BLOCK),
                    (6 * BLOCK, 777),
                ]
                content.drop_all()
                await until(lambda: quiet(made))
                assert len(kept.files()) == 7

    run(main)


def test_a_damaged_chunk_is_fetched_again_and_kept_again(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log("was damaged")

    async def main() -> None:
        with disk_at(tmp_path) as kept:
            await kept.disk.scan()
            async with core() as made:
                made.source.disk = kept.disk
                assert await read_all(made, content_of(made)) == DATA
                await until(lambda: quiet(made))
                path = max(kept.files(), key=lambda each: each.stat().st_size)
                raw = bytearray(path.read_bytes())
                raw[BLOCK // 2] ^= 4
                path.write_bytes(raw)
                gets(made)
                assert await read_all(made, content_of(made)) == DATA
                assert [size for _, size in gets(made)] == [BLOCK]
                await until(lambda: quiet(made))
                assert await read_all(made, content_of(made)) == DATA
                assert gets(made) == []

    run(main)


def test_a_block_looked_at_twice_is_kept_whole(tmp_path: Path) -> None:
    data = DATA * 3

    async def main() -> None:
        with disk_at(tmp_path) as kept:
            await kept.disk.scan()
            async with core(chunk=MIB) as made:
                made.source.disk = kept.disk
                reader = made.reading.open(content_of(made, data), 2)

                async def look(at: int) -> list[tuple[int, int]]:
                    assert bytes(await reader.read(at, 4096)) == data[at : at + 4096]
                    return gets(made)

                first, second, third = 9 * BLOCK, 9 * BLOCK + 500_000, 9 * BLOCK + 900_000
                gets(made)
                assert await look(first) == [(first, 4096)]
                assert await look(3 * BLOCK) == [(3 * BLOCK, 4096)]
                assert await look(second) == [(9 * BLOCK, BLOCK)]
                assert await look(15 * BLOCK) == [(15 * BLOCK, 4096)]
                assert await look(third) == []
                reader.close()
                reader.content.drop_all()
                await until(lambda: quiet(made))
                reader = made.reading.open(content_of(made, data), 2)
                assert await look(first) == []
                assert len(kept.files()) == 1
                reader.content.drop_all()

    run(main)


def test_memory_is_nobody_elses_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as kept:
            async with core(memory=2 * BLOCK) as made:
                made.source.disk = kept.disk
                held = Held(monkeypatch)
                content = content_of(made)
                cell = await content.cell(0)
                content.consume(0, cell, BLOCK)
                assert content.cells == {}
                await until(lambda: held.calls)
                other = made.source.pool.try_take(BLOCK, reclaim=True)
                assert other is not None
                other.view[:] = b"\xff" * BLOCK
                assert made.source.pool.try_take(BLOCK, reclaim=True) is None
                waited = []

                async def want() -> None:
                    waited.append(await made.source.pool.take(BLOCK))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(want)
                    await trio.testing.wait_all_tasks_blocked()
                    assert not waited
                    held.go.set()
                waited[0].view[:] = bytes(BLOCK)
                for block in (other, waited[0]):
                    made.source.pool.give(block)
                assert made.budget.used == 0
                assert await unit_of(content_of(made), 0) == unit(0)
                assert made.store.count("get_range_into") == 1

    run(main)


def test_pressure_takes_nothing_whose_memory_it_cannot_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was fetched ahead and is being written would be fetched twice, and free nothing."""

    async def main() -> None:
        with disk_at(tmp_path) as kept:
            async with core(memory=8 * BLOCK) as made:
                made.source.disk = kept.disk
                held = Held(monkeypatch)
                reader = made.reading.open(content_of(made), 2)
                reader.content.start(0, 7, prefetch=True)
                await reader.content.cell(6)
                await until(lambda: held.calls)
                freed, left = made.reading.reclaim(BLOCK), len(reader.content.cells)
                held.go.set()
                assert (freed, left) == (0, 7)
                await until(lambda: len(kept.files()) == 7)
                await trio.testing.wait_all_tasks_blocked()
                assert made.reading.reclaim(BLOCK) >= BLOCK

    run(main)


def test_of_a_changed_object_there_is_never_a_mixture(tmp_path: Path) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as kept:
            async with core() as made:
                made.source.disk = kept.disk
                old = content_of(made)
                for number in (0, 1, 3):
                    await old.cell(number)
                old.drop_all()
                await until(lambda: quiet(made))
                old = content_of(made)
                new = bytes(reversed(DATA))
                made.put(b"key", new)
                assert old.start(0, 7, prefetch=False) == 7
                for number in range(7):
                    if number in (0, 1, 3):
                        assert await unit_of(old, number) == unit(number)
                    else:
                        with pytest.raises(Changed):
                            await old.cell(number)
                old.drop_all()
                assert await read_all(made, content_of(made, new)) == new
                await until(lambda: quiet(made))
                gets(made)
                assert await read_all(made, content_of(made, new)) == new
                assert gets(made) == []

    run(main)


def test_readers_of_a_disk_that_fails_midway_notice_nothing(
    tmp_path: Path, expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("the cache is off")

    async def main() -> None:
        with disk_at(tmp_path) as kept:
            async with core(chunk=2 * MIB) as made:
                made.source.disk = kept.disk
                assert await read_all(made, content_of(made)) == DATA
                await until(lambda: quiet(made))
                inner, good = os.preadv, 3

                def preadv(*arguments: Any) -> int:
                    nonlocal good
                    good -= 1
                    if good < 0:
                        raise OSError(errno.EIO, "broken")
                    return inner(*arguments)

                monkeypatch.setattr(os, "preadv", preadv)
                assert await read_all(made, content_of(made)) == DATA
                assert kept.disk.statistics()["off"]
                assert await read_all(made, content_of(made)) == DATA
                await until(lambda: quiet(made))

    run(main)


def test_a_slow_disk_slows_no_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with disk_at(tmp_path) as kept:
            await kept.disk.scan()
            async with core(memory=96 * MIB, chunk=2 * MIB) as made:
                made.source.disk = kept.disk
                held = Held(monkeypatch)
                data = DATA * 20
                begun = time.monotonic()
                assert await read_all(made, content_of(made, data)) == data
                assert time.monotonic() - begun < 10
                assert BLOCK < made.budget.used <= BACKLOG + 8 * MIB
                held.go.set()
                await until(lambda: quiet(made))

    run(main)
