"""The file system without a kernel: what a name costs, what a change does, what is remembered."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import Changed, Unavailable
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT, Directory
from tests.support.core import MIB, core, run


def test_a_file_costs_a_head_a_directory_a_list_more_and_a_fresh_name_nothing() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"dir/file", b"1")
            await made.fs.lookup(ROOT, b"dir")
            assert made.requests() == ["head", "list_page"]
            await made.walk(b"dir/file")
            assert made.requests() == ["head"]
            await made.walk(b"dir/file")
            assert made.requests() == []
            with pytest.raises(FileSystemError) as missing:
                await made.fs.lookup(ROOT, b"missing")
            assert missing.value.errno == errno.ENOENT
            assert made.requests() == ["head", "list_page"]

    run(main)


def test_a_listing_answers_later_lookups() -> None:
    async def main() -> None:
        async with core() as made:
            for number in range(2500):
                made.put(b"file-%04d" % number, b"x")
            found = await made.listing(ROOT)
            assert [name for name, _, _ in found] == [b"file-%04d" % n for n in range(2500)]
            assert made.requests() == ["list_page"] * 3
            for name, inode, _ in found[::100]:
                assert (await made.fs.lookup(ROOT, name)) is inode
                assert (await made.fs.attributes(inode.number)) is inode
            assert made.requests() == []

    run(main)


def test_identical_lookups_at_once_are_one_request() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"file", b"1")
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(made.fs.lookup, ROOT, b"file")
            assert made.requests() == ["head"]
            assert (await made.fs.lookup(ROOT, b"file")).lookups == 51

    run(main)


def test_attributes_are_believed_exactly_as_long_as_configured() -> None:
    async def main() -> None:
        async with core(attr_timeout=10) as made:
            made.put(b"file", b"1")
            inode = await made.walk(b"file")
            assert made.fs.remaining(inode) == pytest.approx(10)
            await trio.sleep(4)
            assert made.fs.remaining(inode) == pytest.approx(6), (
                "kernel and user space never add up"
            )
            await trio.sleep(5.9)
            made.requests()
            await made.fs.attributes(inode.number)
            assert made.requests() == []
            await trio.sleep(0.2)
            assert made.fs.remaining(inode) == 0
            await made.fs.attributes(inode.number)
            assert made.requests() == ["head"]

    run(main)


def test_with_a_time_out_of_zero_every_look_asks() -> None:
    async def main() -> None:
        async with core(attr_timeout=0) as made:
            made.put(b"file", b"1")
            inode = await made.walk(b"file")
            for _ in range(3):
                made.requests()
                assert (await made.walk(b"file")) is inode
                assert made.requests() == ["head"]

    run(main)


def test_a_changed_object_is_a_new_inode_and_the_old_one_is_stale_once() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"file", b"old")
            old = await made.walk(b"file")
            made.put(b"file", b"new")
            await trio.sleep(2)
            with pytest.raises(FileSystemError) as stale:
                await made.fs.attributes(old.number)
            assert stale.value.errno == errno.ESTALE
            assert made.kernel.dropped_names == [(ROOT, b"file")]
            made.requests()
            new = await made.walk(b"file")
            assert made.requests() == [], "what was found is there for the kernel's next lookup"
            assert new.number != old.number
            made.forget_everything()
            assert len(made.fs.inodes) == 1

    run(main)


def test_what_the_kernel_does_not_come_back_for_is_swept_away() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"file", b"old")
            old = await made.walk(b"file")
            made.put(b"file", b"new")
            await trio.sleep(2)
            with pytest.raises(FileSystemError):
                await made.fs.attributes(old.number)
            made.fs.forget([(old.number, 1)])
            assert len(made.fs.inodes) == 2
            made.fs.sweep()
            assert len(made.fs.inodes) == 1

    run(main)


def test_a_name_that_the_kernel_has_not_heard_the_end_of_is_stale_at_open_not_at_read() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            old = await made.walk(b"f")
            handle = await made.fs.open(old.number)
            assert bytes(await made.fs.read(handle, 0, 10)) == b"old"
            made.put(b"f", b"new one")
            await trio.sleep(100)
            assert (await made.fs.attributes(old.number)) is old, "it is open"
            for _ in range(3):  # the kernel's hint stands in line: it keeps naming the old inode
                with pytest.raises(FileSystemError) as stale:
                    await made.fs.open(old.number)
                assert stale.value.errno == errno.ESTALE
            assert await made.contents(b"f") == b"new one"
            assert bytes(await made.fs.read(handle, 3, 10)) == b""
            made.fs.close(handle)

    run(main)


def test_an_open_file_keeps_its_attributes_and_its_bytes_or_is_stale() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"file", b"o" * (20 * MIB))
            inode = await made.walk(b"file")
            handle = await made.fs.open(inode.number)
            assert bytes(await made.fs.read(handle, 0, 100)) == b"o" * 100
            made.put(b"file", b"n" * 10)
            await trio.sleep(2)
            assert (await made.fs.attributes(inode.number)) is inode
            assert inode.size == 20 * MIB
            assert made.kernel.dropped_names == [(ROOT, b"file")]
            with pytest.raises(Changed):
                await made.fs.read(handle, 19 * MIB, 100)
            assert await made.contents(b"file") == b"n" * 10
            made.fs.close(handle)
            made.forget_everything()
            assert len(made.fs.inodes) == 1

    run(main)


def test_a_change_before_the_first_byte_is_found_at_open() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"file", b"old")
            inode = await made.walk(b"file")
            made.put(b"file", b"new")
            with pytest.raises(Changed):
                await made.fs.open(inode.number)
            assert made.kernel.dropped_names == [(ROOT, b"file")]
            assert await made.contents(b"file") == b"new"
            assert made.budget.used == 0

    run(main)


def test_a_warm_open_costs_nothing_within_the_time_out() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"file", b"1")
            assert await made.contents(b"file") == b"1"
            made.requests()
            handle = await made.fs.open((await made.walk(b"file")).number)
            made.fs.close(handle)
            assert made.requests() == []

    run(main)


def test_symlink_objects_show_their_targets() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"target", b"t" * 5000)
            made.bucket.put_symlink(b"link", b"target", deadline=1e9)
            found = {name: inode for name, inode, _ in await made.listing(ROOT)}
            assert made.fs.remaining(found[b"link"]) == 0, "a listing knows only the link itself"
            inode = await made.fs.attributes(found[b"link"].number)
            assert inode is found[b"link"]
            assert inode.size == 5000
            assert await made.contents(b"link") == b"t" * 5000

    run(main)


def test_any_earlier_cookie_goes_on_exactly_there_whatever_has_changed() -> None:
    async def main() -> None:
        async with core() as made:
            for number in range(2100):
                made.put(b"f-%05d" % number, b"")
                if number % 3 == 0:
                    made.put(b"f-%05d/x" % number, b"")  # hidden by the file
                    made.put(b"f-%05d-d/x" % number, b"")
            handle = made.fs.open_directory(ROOT)
            found = await made.listing(ROOT, handle)
            names = [name for name, _, _ in found]
            assert len(set(names)) == len(names) == 2800
            for number in (5, 1200):
                made.delete(b"f-%05d" % number)
            made.put(b"f-00000a", b"")
            for index in (2799, 2000, 1999, 1001, 1000, 999, 998, 7, 3, 0):
                rest = [n for n, _, _ in await made.listing(ROOT, handle, found[index][2])]
                kept = [n for n in names[index + 1 :] if n not in (b"f-00005", b"f-01200")]
                assert [n for n in rest if n in kept] == kept, index
                assert len(set(rest)) == len(rest)
                assert not set(rest) & set(names[: index + 1]), "a name was handed out twice"
            made.fs.close_directory(handle)
            assert made.budget.used == 0

    run(main)


def test_rewinding_lists_afresh() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"a", b"")
            handle = made.fs.open_directory(ROOT)
            assert [n for n, _, _ in await made.listing(ROOT, handle)] == [b"a"]
            made.put(b"b", b"")
            assert [n for n, _, _ in await made.listing(ROOT, handle)] == [b"a", b"b"]
            made.fs.close_directory(handle)

    run(main)


def test_names_that_are_too_long_or_no_text_are_refused_without_a_request() -> None:
    async def main() -> None:
        async with core() as made:
            for name, number in (
                (b"n" * 256, errno.ENAMETOOLONG),
                (b"\xff\xfe", errno.ENOENT),
            ):
                with pytest.raises(FileSystemError) as refused:
                    await made.fs.lookup(ROOT, name)
                assert refused.value.errno == number
            assert made.requests() == []

    run(main)


def test_dots_are_answered_and_a_file_is_no_directory() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"dir/file", b"1")
            folder = await made.walk(b"dir")
            assert (await made.fs.lookup(folder.number, b".")) is folder
            assert (await made.fs.lookup(folder.number, b"..")).number == ROOT
            file = await made.walk(b"dir/file")
            for attempt in (made.fs.lookup(file.number, b"x"), made.fs.open(folder.number)):
                with pytest.raises(FileSystemError) as refused:
                    await attempt
                assert refused.value.errno in (errno.ENOTDIR, errno.EISDIR)
            with pytest.raises(FileSystemError) as unknown:
                await made.fs.lookup(99_999, b"x")
            assert unknown.value.errno == errno.ESTALE

    run(main)


def test_a_directory_that_became_a_file_is_one_and_one_that_is_empty_is_gone() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"thing/x", b"1")
            assert isinstance(await made.walk(b"thing"), Directory)
            made.delete(b"thing/x")
            made.put(b"thing", b"file now")
            await trio.sleep(2)
            assert await made.contents(b"thing") == b"file now"
            made.delete(b"thing")
            await trio.sleep(2)
            with pytest.raises(FileSystemError):
                await made.walk(b"thing")

    run(main)


def test_a_prefix_hides_everything_else() -> None:
    async def main() -> None:
        async with core(prefix=b"data/train/") as made:
            made.put(b"data/train/a", b"1")
            made.put(b"data/b", b"2")
            assert [n for n, _, _ in await made.listing(ROOT)] == [b"a"]
            assert await made.contents(b"a") == b"1"

    run(main)


def test_unspeakable_keys_are_counted_and_told_once(expect_log: Callable[[str], None]) -> None:
    expect_log("skipping keys")

    async def main() -> None:
        async with core() as made:
            made.put(b"a//b", b"1")
            made.put(b"..", b"1")
            for _ in range(3):
                assert [n for n, _, _ in await made.listing(ROOT)] == [b"a"]
            assert made.metrics.counts["unspeakable_keys"] == 3

    run(main)


def test_a_replacement_of_the_same_size_and_second_is_noticed_and_a_touch_is_no_change() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.bucket._wall = lambda: 1_700_000_000
            made.put(b"file", b"old!")
            old = await made.walk(b"file")
            made.put(b"file", b"new!")
            await trio.sleep(2)
            new = await made.walk(b"file")
            assert (new.size, new.mtime) == (old.size, old.mtime)
            assert new.number != old.number
            made.bucket._wall = lambda: 1_700_000_100
            made.put(b"file", b"new!")
            await trio.sleep(2)
            assert (await made.walk(b"file")) is new
            assert new.mtime == 1_700_000_100

    run(main)


def test_a_listing_asked_for_earlier_does_not_bring_an_old_version_back() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            for name in (b"a", b"b", b"c", b"d"):
                made.put(name, b"old")
            handle = made.fs.open_directory(ROOT)
            await made.fs.read_directory(handle, 0, lambda *_: True)
            await trio.testing.wait_all_tasks_blocked()  # the second page is here
            await trio.sleep(1)
            made.put(b"c", b"newer")
            newer = await made.walk(b"c")
            rest = {name: inode for name, inode, _ in await made.listing(ROOT, handle, at=4)}
            assert rest[b"c"] is newer
            assert newer.size == 5
            assert made.fs.remaining(newer) == 60
            assert made.fs.remaining(rest[b"d"]) == 59, "counted from when the page was asked for"
            made.fs.close_directory(handle)

    run(main)


def test_a_file_wins_over_a_directory_of_its_name_pages_apart() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            for key in (b"a", b"a-1", b"a-2", b"a-3", b"a/hidden", b"b/x"):
                made.put(key, key)
            found = {name: inode for name, inode, _ in await made.listing(ROOT)}
            assert sorted(found) == [b"a", b"a-1", b"a-2", b"a-3", b"b"]
            assert not isinstance(found[b"a"], Directory)
            made.requests()
            assert (await made.fs.lookup(ROOT, b"a")) is found[b"a"]
            assert made.requests() == []

    run(main)


def test_a_link_opened_straight_from_a_listing_reads_its_target_and_sees_it_change() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"target", b"t" * 5000)
            made.bucket.put_symlink(b"link", b"target", deadline=1e9)
            [(_, link, _)] = [one for one in await made.listing(ROOT) if one[0] == b"link"]
            made.requests()
            handle = await made.fs.open(link.number)
            assert bytes(await made.fs.read(handle, 0, 8192)) == b"t" * 5000
            assert made.requests() == ["head", "get_range_into"]
            made.fs.close(handle)
            made.put(b"target", b"T" * 5000)
            await trio.sleep(2)
            assert await made.contents(b"link") == b"T" * 5000

    run(main)


def test_a_directory_is_asked_for_by_one_list_and_stale_once_it_is_empty() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"dir/file", b"1")
            folder = await made.walk(b"dir")
            await trio.sleep(2)
            made.requests()
            assert (await made.fs.attributes(folder.number)) is folder
            assert made.requests() == ["list_page"]
            made.delete(b"dir/file")
            await trio.sleep(2)
            with pytest.raises(FileSystemError) as stale:
                await made.fs.attributes(folder.number)
            assert stale.value.errno == errno.ESTALE
            assert made.kernel.dropped_names == [(ROOT, b"dir")]

    run(main)


def test_a_marker_makes_a_directory_and_is_no_name_in_it() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"empty/", b"")
            assert [(n, type(i)) for n, i, _ in await made.listing(ROOT)] == [(b"empty", Directory)]
            assert await made.listing((await made.walk(b"empty")).number) == []
            made.forget_everything()
            assert isinstance(await made.walk(b"empty"), Directory)

    run(main)


def test_a_store_in_trouble_costs_no_name(expect_log: Callable[[str], None]) -> None:
    expect_log("failed after")

    async def main() -> None:
        async with core() as made:
            made.put(b"file", b"1" * 100)
            inode = await made.walk(b"file")
            made.store.add(Rule(None, Raise(Unavailable("down")), times=None))
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await made.fs.open(inode.number)
            with pytest.raises(Unavailable):
                await made.fs.lookup(ROOT, b"other")
            assert inode.attached
            assert made.kernel.dropped_names == []
            made.store.heal()
            assert await made.contents(b"file") == b"1" * 100
            made.forget_everything()
            assert len(made.fs.inodes) == 1

    run(main)


def test_a_lookup_that_is_given_up_counts_for_nobody() -> None:
    slow = 0.0

    async def gate(_op: str, _key: bytes) -> None:
        await trio.sleep(slow)

    async def main() -> None:
        nonlocal slow
        async with core(gate=gate) as made:
            made.put(b"file", b"1")
            slow = 10
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.fs.lookup, ROOT, b"file")
                with trio.move_on_after(1):
                    await made.fs.lookup(ROOT, b"file")
            assert made.requests() == ["head"]
            made.forget_everything()
            with trio.move_on_after(1):
                await made.fs.lookup(ROOT, b"file")
            assert len(made.fs.inodes) == 1

    run(main)
