"""What `ossfs warm` asks for: files brought to the disk cache, looked for and removed."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ossfs.reading import chunks
from ossfs.reading.disk import DiskCache
from ossfs.runtime.blocks import BLOCK
from ossfs.tree.inodes import ROOT
from ossfs.vfs.warming import CHECK, EVICT, FETCHES, FILES, FILL, warm
from tests.support.core import MIB, Core, core
from tests.support.disk import full, roomy, run
from tests.unit.vfs.support import late

BIG = random.Random(3).randbytes(20 * BLOCK + 777)

ExpectLog = Callable[[str], None]


class Warmed:
    """A file system with a disk cache, and what it answers."""

    def __init__(self, made: Core, disk: DiskCache) -> None:
        self.made = made
        self.disk = disk
        self.more = 0
        """Bytes told of as they were fetched."""

    async def ask(self, do: str, *paths: str) -> list[Mapping[str, Any]]:
        """Return the answer for each path."""
        answers: dict[int, Mapping[str, Any]] = {}

        async def send(message: Mapping[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            if "more" in message:
                self.more += message["more"]
                return
            number = message["path"]
            assert number not in answers, "one answer for each"
            answers[number] = {name: what for name, what in message.items() if name != "path"}

        self.made.requests()
        await warm(self.made.fs, self.made.source, do, paths, send)
        assert sorted(answers) == list(range(len(paths)))
        return [answers[number] for number in range(len(paths))]

    async def settled(self) -> bool:
        """Whether nothing is held for anybody: no handles, lookups or memory."""
        made = self.made
        with trio.move_on_after(5):  # what was read may still be on its way to the disk
            while made.budget.used:
                await trio.sleep(0.001)
        made.fs.sweep()
        return (
            not made.fs._files
            and len(made.fs.inodes) == 1
            and not made.source.contents
            and made.budget.used == 0
        )


@asynccontextmanager
async def warmed(
    directory: Path,
    *,
    size: int = 256 * MIB,
    largest: int = -1,
    statvfs: Callable[[str], os.statvfs_result] = roomy,
    **options: Any,
) -> AsyncIterator[Warmed]:
    async with core(**options) as made:
        directory.mkdir(exist_ok=True)
        disk = made.source.disk = DiskCache(
            str(directory),
            size=size,
            floor=0,
            largest=largest,
            bucket="bucket",
            metrics=made.metrics,
            charge=lambda _: None,
            most=1 << 20,
            backlog=1 << 26,
            now=trio.current_time,
            statvfs=statvfs,
        )
        try:
            await disk.scan()
            yield Warmed(made, disk)
        finally:
            disk.close()


def whole(size: int, fetched: int) -> Mapping[str, int]:
    return {"size": size, "held": size, "fetched": fetched}


def gets(made: Core) -> int:
    return made.requests().count("get_range_into")


# What is asked for


def test_a_file_is_fetched_once_and_then_read_without_a_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"d/big", BIG)
            assert await one.ask(CHECK, "d/big") == [{"size": len(BIG), "held": 0, "fetched": 0}]
            assert gets(one.made) == 0
            assert await one.ask(FILL, "d/big") == [whole(len(BIG), len(BIG))]
            assert gets(one.made) == 3, "eight units each"
            assert one.more == len(BIG)
            for do in (FILL, CHECK):
                assert await one.ask(do, "d/big") == [whole(len(BIG), 0)]
                assert gets(one.made) == 0
            assert await one.made.contents(b"d/big") == BIG
            assert gets(one.made) == 0
            one.made.forget_everything()
            assert await one.settled()

    run(main)


def test_only_what_is_missing_is_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"big", BIG)
            inode = await one.made.walk(b"big")
            shelf = one.disk.shelf(b"big", inode.etag, inode.size)
            assert shelf is not None
            for unit in (0, 5, 6, 20):
                piece = BIG[unit * BLOCK : (unit + 1) * BLOCK]
                assert await shelf.write(unit, [memoryview(piece)])
            there = 3 * BLOCK + 777
            assert (await one.ask(CHECK, "big"))[0]["held"] == there
            assert await one.ask(FILL, "big") == [whole(len(BIG), len(BIG) - there)]
            assert gets(one.made) == 3, "1 to 4, 7 to 14, 15 to 19"
            assert await one.made.contents(b"big") == BIG
            assert gets(one.made) == 0

    run(main)


def test_what_is_removed_is_fetched_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            for name in (b"a", b"b"):
                one.made.put(name, BIG[: 2 * BLOCK])
            await one.ask(FILL, "a", "b")
            gone = {"size": 2 * BLOCK, "held": 0, "fetched": 0}
            assert await one.ask(EVICT, "a") == [gone]
            assert await one.ask(EVICT, "a") == [gone], "nothing to remove is no error"
            assert await one.ask(CHECK, "a", "b") == [gone, whole(2 * BLOCK, 0)]
            assert one.disk.statistics()["chunks"] == 2
            assert await one.ask(FILL, "a", "b") == [
                whole(2 * BLOCK, 2 * BLOCK),
                whole(2 * BLOCK, 0),
            ]

    run(main)


def test_an_empty_file_is_there_from_the_beginning(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"empty", b"")
            for do in (FILL, CHECK, EVICT):
                assert await one.ask(do, "empty") == [whole(0, 0)]
            assert gets(one.made) == 0

    run(main)


def test_many_files_are_fetched_side_by_side_as_many_as_may_be(tmp_path: Path) -> None:
    under_way = most = 0

    async def gate(op: str, _key: bytes) -> None:
        nonlocal under_way, most
        if op == "get_range_into":
            under_way += 1
            most = max(most, under_way)
            await trio.sleep(0.002)
            under_way -= 1

    async def main() -> None:
        async with warmed(tmp_path / "cache", gate=gate) as one:
            names = [f"d/file-{number:03}" for number in range(3 * FILES)]
            for number, name in enumerate(names):
                one.made.put(name.encode(), b"%d" % number * 1000)
            sizes = [len(b"%d" % number) * 1000 for number in range(3 * FILES)]
            assert await one.ask(FILL, *names) == [whole(size, size) for size in sizes]
            assert gets(one.made) == len(names)
            assert 8 < most <= FETCHES
            assert await one.ask(FILL, *names) == [whole(size, 0) for size in sizes]
            assert await one.settled()

    run(main)


def test_a_large_file_comes_through_little_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache", memory=3 * MIB) as one:
            one.made.put(b"big", BIG)
            one.made.put(b"small", b"small")
            assert await one.ask(FILL, "big", "small") == [whole(len(BIG), len(BIG)), whole(5, 5)]
            assert one.made.budget.peak <= 3 * MIB
            assert await one.settled()

    run(main)


def test_one_path_asked_for_twice_is_answered_twice(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"f", b"data")
            answers = await one.ask(FILL, "f", "/f", "./f", "f/")
            assert {answer["held"] for answer in answers} == {4}
            assert await one.settled()

    run(main)


def test_two_who_bring_the_same_at_once_are_both_told_that_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            for number in range(20):
                one.made.put(b"%d" % number, bytes(3 * BLOCK))
                answers: list[Mapping[str, Any]] = []

                async def ask(path: str, after: float, answers: list[Mapping[str, Any]]) -> None:
                    await trio.sleep(after)
                    answers.extend(await one.ask(FILL, path))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask, str(number), 0, answers)
                    nursery.start_soon(ask, str(number), number / 4_000, answers)
                assert [answer["held"] for answer in answers] == [3 * BLOCK] * 2
            assert await one.settled()

    run(main)


# What is not to be had


def test_what_is_no_file_of_the_bucket_is_an_error_of_its_own_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"d/file", b"data")
            one.made.put(b"writing", b"before")
            inode = await one.made.walk(b"writing")
            handle = await one.made.fs.open_for(inode.number, os.O_WRONLY | os.O_TRUNC)
            paths = ["d/none", "d", "", "d/file/below", "writing", "no/such", "x" * 300, "d/file"]
            for do in (FILL, CHECK, EVICT):
                answers = await one.ask(do, *paths)
                errors = [str(answer.get("error")) for answer in answers]
                assert errors == [
                    "No such file or directory",
                    "Is a directory",
                    "Is a directory",
                    "Not a directory",
                    "it is being written",
                    "No such file or directory",
                    "File name too long",
                    "None",
                ]
            await one.made.fs.write(handle, 0, b"after")
            await one.made.fs.flush(handle)
            await one.made.fs.release(handle)
            await one.made.writing.idle.wait()
            assert await one.ask(FILL, "writing") == [whole(5, 5)]
            one.made.fs.forget([(inode.number, inode.lookups)])
            assert await one.settled()

    run(main)


def test_a_name_in_any_bytes_finds_its_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            name = "d/\u00fc \n\u6f22"
            one.made.put(name.encode(), b"data")
            (found, missing) = await one.ask(FILL, name, os.fsdecode(b"d/\xff"))
            assert found == whole(4, 4)
            assert missing == {"error": "No such file or directory"}

    run(main)


def test_an_object_that_is_replaced_meanwhile_is_an_error_of_its_own_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one, trio.open_nursery() as nursery:
            one.made.put(b"big", BIG)
            one.made.put(b"other", b"other")
            slow = late(one.made, "get_range_into", b"big", performed=False)
            answers: list[Mapping[str, Any]] = []

            async def fill() -> None:
                answers.extend(await one.ask(FILL, "big", "other"))

            nursery.start_soon(fill)
            await slow.here()
            one.made.put(b"big", b"new")
            slow.go()
            while not answers:
                await trio.sleep(0.001)
            assert str(answers[0]["error"]).startswith("Stale file handle (")
            assert answers[1] == whole(5, 5)
            assert await one.settled()

    run(main)


def test_an_object_that_was_replaced_before_is_found_and_fetched_at_the_second_try(
    tmp_path: Path,
) -> None:
    """The attributes that the mount believes for a while are of the version that was."""

    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            one.made.put(b"f", b"old")
            inode = await one.made.walk(b"f")
            one.made.put(b"f", b"newer")
            (first,) = await one.ask(FILL, "f")
            assert first in (whole(5, 5), {"error": first.get("error")})
            assert await one.ask(FILL, "f") == [whole(5, 5)]
            one.made.fs.forget([(inode.number, inode.lookups)])
            assert await one.settled()

    run(main)


def test_a_disk_without_room_is_told_for_each_file(tmp_path: Path, expect_log: ExpectLog) -> None:
    expect_log("disk_data_cache_dir: nothing is kept for now")

    async def main() -> None:
        async with warmed(tmp_path / "cache", statvfs=full) as one:
            one.made.put(b"big", BIG)
            one.made.put(b"small", b"small")
            why = {"error": "the disk cache does not take it; the mount's log says why"}
            assert await one.ask(FILL, "big", "small") == [why, why]
            assert (await one.ask(CHECK, "small"))[0]["held"] == 0
            assert await one.settled()

    run(main)


def test_of_a_file_that_is_larger_than_the_cache_is_there_what_fits_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest cache that may be had, and a disk that is slow: nothing to warn of."""
    inner: Callable[..., Any] = chunks.write
    go = threading.Event()

    def held(*arguments: Any) -> Any:
        assert go.wait(15)
        return inner(*arguments)

    monkeypatch.setattr(chunks, "write", held)

    async def main() -> None:
        async with warmed(tmp_path / "cache", size=64 * MIB) as one, trio.open_nursery() as nursery:
            one.made.put(b"big", BIG * 5)
            answers: list[Mapping[str, Any]] = []

            async def fill() -> None:
                answers.extend(await one.ask(FILL, "big"))

            nursery.start_soon(fill)
            await trio.testing.wait_all_tasks_blocked(0.05)
            go.set()
            while not answers:
                await trio.sleep(0.001)
            assert "error" not in answers[0]
            assert 0 < answers[0]["held"] <= 64 * MIB < answers[0]["size"]
            assert await one.settled()

    run(main)


def test_a_file_that_is_too_large_to_be_kept_is_an_error_and_costs_no_get(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache", largest=1000) as one:
            one.made.put(b"big", bytes(1001))
            one.made.put(b"small", bytes(1000))
            big, small = await one.ask(FILL, "big", "small")
            assert "does not take it" in str(big["error"])
            assert small == whole(1000, 1000)
            assert gets(one.made) == 1
            assert (await one.ask(CHECK, "big")) == [{"size": 1001, "held": 0, "fetched": 0}]
            assert (await one.ask(EVICT, "big")) == [{"size": 1001, "held": 0, "fetched": 0}]

    run(main)


# Others at the same time


def test_a_file_may_be_read_removed_and_renamed_while_it_is_fetched(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one, trio.open_nursery() as nursery:
            made = one.made
            for name in (b"read", b"gone", b"moved"):
                made.put(name, BIG)
            slow = [
                late(made, "get_range_into", name, performed=False)
                for name in (b"read", b"gone", b"moved")
            ]
            answers: list[Mapping[str, Any]] = []

            async def fill() -> None:
                answers.extend(await one.ask(FILL, "read", "gone", "moved"))

            nursery.start_soon(fill)
            for one_late in slow:
                await one_late.here()
            assert await made.contents(b"read") == BIG
            for name in (b"gone", b"moved"):
                await made.walk(name)
            await made.fs.unlink(ROOT, b"gone")
            await made.fs.rename(ROOT, b"moved", ROOT, b"there", 0)
            for one_late in slow:
                one_late.go()
            while not answers:
                await trio.sleep(0.001)
            assert answers[0]["held"] == len(BIG)
            assert str(answers[1]["error"]).startswith("No such file")
            assert "error" not in answers[2]
            assert await made.contents(b"there") == BIG
            made.forget_everything()
            assert await one.settled()

    run(main)


# Whoever asks leaves


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_asker_who_leaves_ends_it_and_nothing_is_left_behind(tmp_path: Path, after: int) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            names = [f"file-{number}" for number in range(100)]
            for name in names:
                one.made.put(name.encode(), BIG[: BLOCK + 1])
            told = 0

            async def send(_message: Mapping[str, Any]) -> None:
                nonlocal told
                await trio.sleep(0.001)
                told += 1
                if told > after:
                    raise BrokenPipeError

            with pytest.raises(BrokenPipeError):
                await warm(one.made.fs, one.made.source, FILL, names, send)
            assert await one.settled()
            assert gets(one.made) <= after + FILES, "the rest is not fetched"

    run(main)


def test_the_end_of_the_mount_ends_it_and_nothing_is_left_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with warmed(tmp_path / "cache") as one:
            names = [f"file-{number}" for number in range(40)]
            for name in names:
                one.made.put(name.encode(), BIG[: BLOCK + 1])
            sent: Sequence[object] = []

            async def send(message: Mapping[str, Any]) -> None:
                sent.append(message)  # type: ignore[attr-defined]
                if len(sent) == 5:
                    scope.cancel()

            with trio.CancelScope() as scope:
                await warm(one.made.fs, one.made.source, FILL, names, send)
            assert scope.cancelled_caught
            assert await one.settled()

    run(main)
