"""Renaming a directory in a bucket: nothing is lost, whatever fails."""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from ossfs.store.api import Capabilities, ListPage, ObjectInfo, PutOptions, PutReply, UploadPart
from ossfs.store.client import StoreClient
from ossfs.store.errors import Corrupt, Denied, Invalid, NotFound, StoreError, Unavailable
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.plan import CorruptByte, CorruptCrc, Fault, Hang, LoseReply, Raise, Rule
from ossfs.store.runner import InlineRunner
from ossfs.writing import copying, moving
from ossfs.writing.moving import Moved, MoveFailed, move_tree
from tests.unit.writing.support import overheard, raises_errno, run

DEADLINE = 1e18
DOWN = Unavailable("by plan", status=503, code="ServiceUnavailable")
NO_SOURCE = Invalid("not a source of a copy", status=400, code="OperationNotSupported")


class Bucket:
    """A store in memory with a client over it."""

    def __init__(self, **limits: Any) -> None:
        clock = cast("MockClock", trio.lowlevel.current_clock())
        self.time = 1_700_000_000
        self.inner = MemoryStore(Capabilities(**limits), wall=lambda: self.time)
        self.store = FaultyStore(self.inner, monotonic=trio.current_time, sleep=clock.jump)
        self.gate: Callable[[str, bytes], Awaitable[None]] | None = None
        self.client = StoreClient(
            self.store,
            request_timeout=10,
            rng=random.Random(0),
            refresh=self.store.refresh,
            runner=InlineRunner(self._pass),
        )
        self.told: list[tuple[bytes, bytes, PutReply | None]] = []

    async def _pass(self, op: str, key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate(op, key)

    def put(self, key: bytes, data: bytes = b"x", options: PutOptions | None = None) -> None:
        self.inner.put(key, [data], options or PutOptions(), deadline=DEADLINE)

    def append(self, key: bytes, data: bytes) -> None:
        self.inner.append(key, 0, [data], PutOptions("text/plain"), deadline=DEADLINE)

    def link(self, key: bytes, target: bytes) -> None:
        self.inner.put_symlink(key, target, deadline=DEADLINE)

    def put_parts(self, key: bytes, *parts: bytes) -> None:
        """Make an object of parts, whose ETag no copy in one request has."""
        upload = self.inner.create_upload(key, deadline=DEADLINE)
        made = [
            UploadPart(
                number,
                self.inner.upload_part(key, upload, number, [part], deadline=DEADLINE).etag,
            )
            for number, part in enumerate(parts, 1)
        ]
        self.inner.complete_upload(key, upload, made, deadline=DEADLINE)

    def delete(self, key: bytes) -> None:
        self.inner.delete(key, deadline=DEADLINE)

    def info(self, key: bytes) -> ObjectInfo:
        return self.inner.head(key, full=True, deadline=DEADLINE)

    def target_of(self, key: bytes) -> bytes:
        return self.inner.get_symlink(key, deadline=DEADLINE)

    def uploads(self) -> int:
        return len(self.inner.list_uploads(b"", deadline=DEADLINE))

    def state(self) -> dict[bytes, bytes]:
        """Return all keys with their bytes; of a link, an arrow and where it leads."""
        found: dict[bytes, bytes] = {}
        token = None
        while True:
            page: ListPage = self.inner.list_page(
                b"",
                delimiter=b"",
                token=token,
                max_keys=self.inner.capabilities.list_page,
                deadline=DEADLINE,
            )
            for entry in page.entries:
                linked = entry.symlink
                found[entry.key] = (
                    b"-> " + self.target_of(entry.key) if linked else self.read(entry.key)
                )
            token = page.next_token
            if token is None:
                return found

    def read(self, key: bytes) -> bytes:
        data = bytearray(self.inner.head(key, deadline=DEADLINE).size)
        if data:
            self.inner.get_range_into(key, 0, [memoryview(data)], if_match=None, deadline=DEADLINE)
        return bytes(data)

    async def move(
        self,
        *,
        limit: int = 10_000,
        concurrency: int = 4,
        target: bytes = b"new/",
        pieces: trio.CapacityLimiter | None = None,
    ) -> Moved:
        return await move_tree(
            self.client,
            b"old/",
            target,
            limit=limit,
            concurrency=concurrency,
            on_moved=lambda old, new, reply, _etag: self.told.append((old, new, reply)),
            pieces=pieces,
        )

    def when(self, op: str, key: bytes, change: Callable[[], None]) -> None:
        """Let somebody else change the bucket just before the first `op` on `key`."""

        async def gate(arrived: str, of: bytes) -> None:
            if (arrived, of) == (op, key):
                self.gate = None
                change()

        self.gate = gate

    def copies(self) -> int:
        return self.store.count("copy") + self.store.count("create_upload")


def tree() -> Iterator[tuple[bytes, bytes]]:
    """A directory with markers, an implicit one, and keys that no path can hold."""
    for key in (b"", b"a", b"d/", b"d/b", b"d/e/", b"d/e/c", b"i/j/k", b"x//y", b"z"):
        yield key, b"bytes of " + key if key and not key.endswith(b"/") else b""


def filled(**limits: Any) -> Bucket:
    bucket = Bucket(**limits)
    for key, data in tree():
        bucket.put(b"old/" + key, data)
    bucket.put(b"older", b"not in it")
    return bucket


EVERYTHING = {b"new/" + key: data for key, data in tree()} | {b"older": b"not in it"}


# -- what moves -----------------------------------------------------------------------------------


def test_every_key_moves_with_its_bytes() -> None:
    async def main() -> None:
        bucket = filled()
        assert await bucket.move() == Moved(moved=9)
        assert bucket.state() == EVERYTHING

    run(main)


def test_a_key_that_only_begins_with_the_name_stays() -> None:
    async def main() -> None:
        bucket = Bucket()
        for key in (b"old", b"old-1/x", b"old/x", b"old0"):
            bucket.put(key)
        await bucket.move()
        assert sorted(bucket.state()) == [b"new/x", b"old", b"old-1/x", b"old0"]

    run(main)


def test_nothing_there_is_nothing_to_move() -> None:
    async def main() -> None:
        bucket = Bucket()
        assert await bucket.move() == Moved(0)
        assert not bucket.store.count("delete_many")

    run(main)


def test_what_belongs_to_an_object_moves_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(copying, "LARGE", 1_000)
        bucket = Bucket(minimum_part=100)
        belongings = PutOptions("text/x-own", {"k": "v"})
        bucket.put(b"old/plain", b"text", belongings)
        bucket.put(b"old/large", b"text" * 1_000, belongings)
        bucket.put(b"old/rare", b"text", PutOptions("text/x-own", {"k": "v"}, storage_class="IA"))
        bucket.append(b"old/log", b"line")
        bucket.link(b"old/ln", b"elsewhere")
        assert await bucket.move() == Moved(5)
        for name in (b"plain", b"large", b"rare"):
            info = bucket.info(b"new/" + name)
            assert (info.content_type, dict(info.metadata)) == ("text/x-own", {"k": "v"})
            assert info.storage_class == ("IA" if name == b"rare" else "Standard")
        assert bucket.info(b"new/log").content_type == "text/plain"
        assert bucket.state() == {
            b"new/plain": b"text",
            b"new/large": b"text" * 1_000,
            b"new/rare": b"text",
            b"new/log": b"line",
            b"new/ln": b"-> elsewhere",
        }

    run(main)


def test_thousands_of_keys_go_over_several_pages_and_batches_without_a_head() -> None:
    async def main() -> None:
        bucket = Bucket()
        for number in range(2_500):
            bucket.put(b"old/%04d" % number, b"%d" % number)
        assert await bucket.move(concurrency=64) == Moved(2_500)
        assert bucket.state() == {b"new/%04d" % n: b"%d" % n for n in range(2_500)}
        seen = [call.op for call in bucket.store.calls]
        assert {op: seen.count(op) for op in seen} == {
            "list_page": 6,
            "copy": 2_500,
            "delete_many": 3,
        }

    run(main)


@pytest.mark.parametrize("concurrency", [1, 3, 100])
def test_so_many_objects_are_copied_at_once_and_no_more(concurrency: int) -> None:
    async def main() -> None:
        bucket = Bucket()
        for number in range(20):
            bucket.put(b"old/%04d" % number)
        most = await most_at_once(bucket, "copy", lambda: bucket.move(concurrency=concurrency))
        assert most == min(concurrency, 20)

    run(main)


def test_large_objects_share_what_parts_may_be_copied_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        monkeypatch.setattr(copying, "LARGE", 1_000)
        bucket = Bucket(minimum_part=100)
        for number in range(4):
            bucket.put(b"old/%d" % number, b"%d" % number * 10_000)
        most = await most_at_once(
            bucket, "copy_part", lambda: bucket.move(pieces=trio.CapacityLimiter(5))
        )
        assert most == 5

    run(main)


async def most_at_once(bucket: Bucket, op: str, work: Callable[[], Awaitable[object]]) -> int:
    """Run `work` with requests that take a second; return how many of `op` there were at once."""
    now = most = 0

    async def gate(arrived: str, _key: bytes) -> None:
        nonlocal now, most
        if arrived == op:
            now += 1
            most = max(most, now)
            await trio.sleep(1)
            now -= 1

    bucket.gate = gate
    await work()
    return most


# -- what is refused ------------------------------------------------------------------------------


def test_more_keys_than_the_limit_move_nothing() -> None:
    async def main() -> None:
        bucket = filled(list_page=2)
        before = bucket.state()
        with raises_errno(errno.EMFILE):
            await bucket.move(limit=8)
        assert bucket.state() == before
        assert {call.op for call in bucket.store.calls} == {"list_page"}
        await bucket.move(limit=9)

    run(main)


def test_a_key_that_would_get_too_long_moves_nothing() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.put(b"old/" + b"n" * (moving.KEY_MAX - 4))
        before = bucket.state()
        with raises_errno(errno.ENAMETOOLONG):
            await bucket.move(target=b"newer/")
        assert bucket.state() == before
        await bucket.move()

    run(main)


@pytest.mark.parametrize("target", [b"old/", b"old/in/", b""])
def test_a_directory_does_not_move_into_itself(target: bytes) -> None:
    async def main() -> None:
        bucket = filled()
        before = bucket.state()
        with raises_errno(errno.EINVAL):
            await bucket.move(target=target)
        assert bucket.state() == before

    run(main)


# -- the order ------------------------------------------------------------------------------------


def test_markers_are_deleted_last_the_deepest_first() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.put(b"old/x//")
        bucket.put(b"old/empty/")
        await bucket.move()
        sizes = [(call.key, call.size) for call in bucket.store.calls if call.op == "delete_many"]
        assert [size for _, size in sizes] == [6, 2, 2, 1]
        assert sizes[-1] == (b"old/", 1)

    run(main)


def test_the_directory_itself_comes_first_at_the_new_name() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.store.add(Rule("copy", Raise(DOWN), key=b"new/", times=None))
        with overheard(), pytest.raises(MoveFailed):
            await bucket.move(concurrency=100)
        assert {call.key for call in bucket.store.calls if call.op == "copy"} == {b"new/"}

    run(main)


def test_nothing_is_deleted_before_everything_is_copied() -> None:
    async def main() -> None:
        bucket = filled(list_page=2, delete_many=1)
        await bucket.move()
        ops = [call.op for call in bucket.store.calls]
        last_copy = max(index for index, op in enumerate(ops) if op == "copy")
        assert ops.index("delete_many") > last_copy

    run(main)


def test_each_copy_is_told_of_once_before_its_source_is_deleted() -> None:
    async def main() -> None:
        bucket = filled(list_page=4, delete_many=1)
        bucket.link(b"old/ln", b"elsewhere")
        etags = {key: bucket.info(key).etag for key in bucket.state() if key != b"old/ln"}

        async def gate(op: str, key: bytes) -> None:
            assert op != "delete_many" or key in {old for old, _, _ in bucket.told}
            assert op != "copy" or not bucket.told

        bucket.gate = gate
        await bucket.move()
        assert len(bucket.told) == 10
        for old, new, reply in bucket.told:
            assert new == b"new/" + old.removeprefix(b"old/")
            if old == b"old/ln":
                assert reply is None
            else:
                assert reply is not None
                assert reply.etag == etags[old] == bucket.info(new).etag

    run(main)


# -- what others do meanwhile ---------------------------------------------------------------------


def test_a_source_that_changes_before_its_copy_is_kept() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.when("copy", b"new/a", lambda: bucket.put(b"old/d/b", b"newer"))
        with overheard() as said:
            moved = await bucket.move(concurrency=1)
        assert moved == Moved(6, kept=1)  # all but it and the two markers it is under
        assert said == [
            "1 objects under b'old/' stay there, for they changed or came while it was renamed:"
            " b'old/d/b'"
        ]
        assert bucket.state() == {
            key: data for key, data in EVERYTHING.items() if key != b"new/d/b"
        } | {
            b"old/": b"",
            b"old/d/": b"",
            b"old/d/b": b"newer",
        }
        assert b"old/d/b" not in {old for old, _, _ in bucket.told}

    run(main)


def test_a_source_that_changes_after_its_copy_is_kept_beside_the_copy() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.when("copy", b"new/z", lambda: bucket.put(b"old/a", b"newer"))
        with overheard():
            assert await bucket.move(concurrency=1) == Moved(7, kept=1)
        state = bucket.state()
        assert (state[b"old/a"], state[b"new/a"]) == (b"newer", b"bytes of a")
        assert len(bucket.told) == 9

    run(main)


def test_a_source_that_is_replaced_by_the_same_bytes_is_kept() -> None:
    async def main() -> None:
        bucket = filled()

        def again() -> None:
            bucket.time += 1
            bucket.put(b"old/a", b"bytes of a", PutOptions(metadata={"newer": "metadata"}))

        bucket.when("copy", b"new/z", again)
        with overheard():
            assert (await bucket.move(concurrency=1)).kept == 1
        assert bucket.info(b"old/a").metadata == {"newer": "metadata"}

    run(main)


def test_a_source_that_changes_while_others_are_deleted_is_kept() -> None:
    async def main() -> None:
        bucket = filled(list_page=2, delete_many=1)
        bucket.when("delete_many", b"old/a", lambda: bucket.put(b"old/z", b"newer"))
        with overheard():
            assert (await bucket.move()).kept == 1
        assert bucket.state()[b"old/z"] == b"newer"

    run(main)


def test_keys_that_come_meanwhile_stay_and_are_reported() -> None:
    async def main() -> None:
        bucket = filled()

        def come() -> None:
            bucket.put(b"old/d/late", b"late")
            bucket.put(b"old/later/", b"")

        bucket.when("copy", b"new/z", come)
        with overheard() as said:
            assert await bucket.move(concurrency=1) == Moved(7, kept=2)
        assert "b'old/d/late', b'old/later/'" in said[0]
        assert {key: data for key, data in bucket.state().items() if key.startswith(b"old/")} == {
            b"old/": b"",
            b"old/d/": b"",
            b"old/d/late": b"late",
            b"old/later/": b"",
        }

    run(main)


@pytest.mark.parametrize("key", [b"a", b"d/e/", b"ln", b"log"])
def test_a_source_that_vanishes_before_its_copy_holds_nothing_up(key: bytes) -> None:
    async def main() -> None:
        bucket = filled()
        bucket.link(b"old/ln", b"elsewhere")
        bucket.append(b"old/log", b"line")
        bucket.when("copy", b"new/", lambda: bucket.delete(b"old/" + key))
        assert await bucket.move() == Moved(10, vanished=1)
        assert not any(name.startswith(b"old/") for name in bucket.state())
        assert b"new/" + key not in bucket.state()

    run(main)


def test_a_source_that_vanishes_after_its_copy_has_moved() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.when("copy", b"new/z", lambda: bucket.delete(b"old/a"))
        assert await bucket.move(concurrency=1) == Moved(9)
        assert bucket.state() == EVERYTHING
        assert len(bucket.told) == 9

    run(main)


@pytest.mark.parametrize("key", [b"old/log", b"old/rare"])
def test_a_source_that_is_no_longer_what_was_listed_is_not_copied(key: bytes) -> None:
    async def main() -> None:
        bucket = Bucket()
        bucket.append(b"old/log", b"line")
        bucket.put(b"old/rare", b"text", PutOptions(storage_class="IA"))
        bucket.when("head", key, lambda: bucket.put(key, b"newer"))
        with overheard():
            assert await bucket.move() == Moved(1, kept=1)
        assert bucket.state()[key] == b"newer"
        assert key.replace(b"old", b"new") not in bucket.state()

    run(main)


def test_a_link_that_becomes_a_file_is_kept() -> None:
    async def main() -> None:
        bucket = Bucket()
        bucket.link(b"old/ln", b"elsewhere")
        bucket.when("get_symlink", b"old/ln", lambda: bucket.put(b"old/ln", b"a file"))
        with overheard():
            assert await bucket.move() == Moved(0, kept=1)
        assert bucket.state() == {b"old/ln": b"a file"}

    run(main)


def test_a_link_that_leads_elsewhere_meanwhile_is_kept() -> None:
    async def main() -> None:
        bucket = Bucket()
        bucket.link(b"old/ln", b"elsewhere")
        bucket.when("put_symlink", b"new/ln", lambda: bucket.link(b"old/ln", b"nowhere"))
        with overheard():
            assert await bucket.move() == Moved(0, kept=1)
        assert bucket.state()[b"old/ln"] == b"-> nowhere"

    run(main)


# -- objects of parts -----------------------------------------------------------------------------


def test_an_object_of_parts_is_compared_by_its_crc() -> None:
    async def main() -> None:
        bucket = Bucket(minimum_part=10)
        bucket.put_parts(b"old/a", b"1" * 10, b"2")
        assert await bucket.move() == Moved(1)
        assert bucket.state() == {b"new/a": b"1" * 10 + b"2"}
        assert bucket.store.count("head") == 1

    run(main)


def test_a_copy_that_came_out_wrong_is_removed_and_stops_the_move() -> None:
    async def main() -> None:
        bucket = Bucket(minimum_part=10)
        bucket.put_parts(b"old/a", b"1" * 10, b"2")
        bucket.store.add(Rule("copy", CorruptCrc(), times=None))
        with overheard() as said, pytest.raises(MoveFailed) as raised:
            await bucket.move()
        assert isinstance(raised.value.reason, Corrupt)
        assert "removed b'new/a'" in said[0]
        assert list(bucket.state()) == [b"old/a"]

    run(main)


def test_a_copy_that_nobody_can_verify_is_removed() -> None:
    async def main() -> None:
        bucket = Bucket(minimum_part=10)
        bucket.put_parts(b"old/a", b"1" * 10, b"2")
        bucket.when("head", b"old/a", lambda: bucket.put(b"old/a", b"newer"))
        with overheard():
            assert await bucket.move() == Moved(0, kept=1)
        assert bucket.state() == {b"old/a": b"newer"}

    run(main)


# -- failures -------------------------------------------------------------------------------------


def test_a_failure_says_how_far_it_came() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.store.add(Rule("copy", Raise(DOWN), nth=4, times=None))
        with overheard(), pytest.raises(MoveFailed) as raised:
            await bucket.move(concurrency=1)
        failed = raised.value
        assert (failed.moved, failed.left, failed.copied) == (0, 9, 3)
        assert isinstance(failed.reason, Unavailable)
        assert failed.keys == [b"old/d/b", b"old/d/e/", b"old/d/e/c"]
        assert str(failed) == (
            "0 objects have moved, 9 are left at their old names (such as b'old/d/b', b'old/d/e/',"
            " b'old/d/e/c'), 3 of them at the new ones too: by plan (key 'new/d/b')"
            " [ServiceUnavailable]"
        )
        assert bucket.store.count("delete_many") == 0
        assert not bucket.told

    run(main)


def test_a_delete_that_fails_says_what_is_left() -> None:
    async def main() -> None:
        bucket = filled(list_page=3, delete_many=2)
        refusal = Denied("no", status=403, code="AccessDenied")
        bucket.store.add(Rule("delete_many", Raise(refusal), nth=2, times=None))
        with overheard(), pytest.raises(MoveFailed) as raised:
            await bucket.move()
        failed = raised.value
        assert (failed.moved, failed.left, failed.copied) == (1, 8, 8)
        assert failed.reason.code == "AccessDenied"
        state = bucket.state()
        assert EVERYTHING.items() <= state.items()
        told = {old for old, _, _ in bucket.told}
        assert {b"old/" + key for key, _ in tree()} - set(state) <= told

    run(main)


def test_the_first_failure_stops_new_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(moving, "DELETES", 1)
        for nth in range(1, 9):  # six files, and the markers of three levels
            bucket = filled(delete_many=1)
            bucket.store.add(Rule("delete_many", Raise(Denied("no")), nth=nth))
            with overheard(), pytest.raises(MoveFailed) as raised:
                await bucket.move()
            assert raised.value.moved == nth - 1
            assert bucket.store.count("delete_many") == nth

    run(main)


def test_the_first_failure_stops_new_copies() -> None:
    async def main() -> None:
        bucket = Bucket()
        for number in range(100):
            bucket.put(b"old/%03d" % number)
        bucket.store.add(Rule("copy", Raise(Denied("no")), nth=10, times=None))
        with overheard(), pytest.raises(MoveFailed):
            await bucket.move(concurrency=5)
        assert bucket.store.count("copy") < 20

    run(main)


def mixed() -> Bucket:
    """Return a bucket with a source of every kind, small enough to try every fault on it."""
    bucket = Bucket(minimum_part=10, list_page=4, delete_many=3)
    bucket.put(b"old/", b"")
    bucket.put(b"old/a", b"bytes of a")
    bucket.put(b"old/d/", b"")
    bucket.put(b"old/d/b", b"bytes of b")
    bucket.put(b"old/large", bytes(range(250)))
    bucket.link(b"old/ln", b"elsewhere")
    bucket.append(b"old/log", b"line")
    bucket.put_parts(b"old/parts", b"1" * 10, b"2")
    bucket.put(b"old/rare", b"text", PutOptions("text/x-own", {"k": "v"}, storage_class="IA"))
    return bucket


def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "LARGE", 100)
    monkeypatch.setattr(copying, "PIECE", 30)
    monkeypatch.setattr(moving, "DELETES", 2)


def assert_nothing_is_lost(before: dict[bytes, bytes], after: dict[bytes, bytes]) -> None:
    """Each file is at one of its names at least, and right wherever it is."""
    for key, data in before.items():
        names = [key, key.replace(b"old/", b"new/", 1)]
        places = [after[name] for name in names if name in after]
        assert places or key.endswith(b"/"), key
        assert set(places) <= {data}
    assert after.keys() <= {*before, *(key.replace(b"old/", b"new/", 1) for key in before)}


FAULTS: list[Fault] = [
    Raise(DOWN),
    LoseReply(DOWN),
    Hang(),
    CorruptCrc(),
    Raise(Denied("no", status=403, code="AccessDenied")),
]
OPS = {
    "list_page": 6,
    "copy": 7,
    "delete_many": 6,
    "head": 4,
    "get_symlink": 1,
    "put_symlink": 1,
    "create_upload": 1,
    "copy_part": 3,
    "complete_upload": 1,
}
"""How many calls of each a faultless move of `mixed` makes, which the first claim holds to."""


def test_the_faults_below_meet_every_request_of_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        scaled(monkeypatch)
        bucket = mixed()
        await bucket.move(concurrency=2)
        seen = [call.op for call in bucket.store.calls]
        assert {op: seen.count(op) for op in seen} == OPS

    run(main)


@pytest.mark.parametrize("fault", FAULTS, ids=["down", "lost", "hang", "crc", "denied"])
@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
@pytest.mark.parametrize("op", OPS)
def test_whatever_fails_every_file_is_at_one_of_its_names(
    monkeypatch: pytest.MonkeyPatch, op: str, fault: Fault, times: int | None
) -> None:
    async def main() -> None:
        scaled(monkeypatch)
        for nth in range(1, OPS[op] + 1):
            bucket = mixed()
            before = bucket.state()
            rule = Rule(op, fault, nth=nth, times=times)
            bucket.store.add(rule)
            whole = False
            with overheard():
                try:
                    moved = await bucket.move(concurrency=2)
                    whole = True
                    assert moved == Moved(9)
                except (MoveFailed, StoreError):
                    assert bucket.store.fired(rule)
            assert bucket.store.fired(rule)
            after = bucket.state()
            assert_nothing_is_lost(before, after)
            assert not whole or not any(key.startswith(b"old/") for key in after)
            # Another rename, when all is well again, does what is left to do.
            bucket.store.heal()
            await bucket.move(concurrency=2)
            assert bucket.state() == {
                key.replace(b"old/", b"new/", 1): data for key, data in before.items()
            }

    run(main)


def test_a_daemon_that_dies_at_any_request_leaves_every_file_at_one_of_its_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        scaled(monkeypatch)
        for nth in itertools.count(1):
            bucket = mixed()
            before = bucket.state()
            arrived = 0
            with trio.CancelScope() as life:

                async def gate(
                    _op: str, _key: bytes, life: trio.CancelScope = life, nth: int = nth
                ) -> None:
                    nonlocal arrived
                    arrived += 1
                    if arrived == nth:
                        life.cancel()
                        await trio.sleep_forever()

                bucket.gate = gate
                with overheard():
                    await bucket.move(concurrency=2)
            assert_nothing_is_lost(before, bucket.state())
            if not life.cancelled_caught:
                break
        assert nth > sum(OPS.values())

    run(main)


def test_appendable_objects_that_have_to_be_read_are_not_lost_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        scaled(monkeypatch)
        plans = 0
        line = bytes(range(100))
        faults: list[Fault] = [*FAULTS, CorruptByte(3)]
        ops = ("get_range_into", "upload_part", "complete_upload", "create_upload")
        for op, fault, nth in itertools.product(ops, faults, (1, 2, 4)):
            bucket = Bucket(minimum_part=10)
            bucket.append(b"old/log", line)
            rule = Rule(op, fault, nth=nth, times=None)
            bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None), rule)
            with overheard():
                try:
                    await bucket.move()
                except MoveFailed:
                    assert bucket.store.fired(rule)
            plans += bool(bucket.store.fired(rule))
            assert_nothing_is_lost({b"old/log": line}, bucket.state())
        assert plans > 30

    run(main)


def test_a_listing_that_fails_at_first_is_the_stores_own_error() -> None:
    async def main() -> None:
        bucket = filled()
        bucket.store.add(Rule("list_page", Raise(NotFound("no"))))
        with pytest.raises(NotFound):
            await bucket.move()
        assert not bucket.copies()

    run(main)
