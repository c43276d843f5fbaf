"""Copies keep all that belongs to an object, are of one version, and are right or not there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import trio

from ossfs.store.api import MARK, ObjectInfo, ObjectType, PutOptions, PutReply
from ossfs.store.errors import (
    Changed,
    Corrupt,
    Denied,
    Exists,
    Invalid,
    NotAppendable,
    NotFound,
    StoreError,
    TooLarge,
)
from ossfs.store.plan import CorruptByte, CorruptCrc, Fault, Hang, LoseReply, Raise, Rule
from ossfs.writing import copying
from ossfs.writing.api import MTIME
from ossfs.writing.copying import copy_object
from tests.unit.writing.support import overheard, run
from tests.unit.writing.test_moving import DOWN, NO_SOURCE, Bucket, most_at_once

OWN = PutOptions("text/x-own", {"k": "v"})
RARE = PutOptions("text/x-own", {"k": "v"}, storage_class="IA")
DATA = bytes(range(256)) * 40
AS_LARGE = pytest.mark.parametrize("large", [False, True], ids=["one request", "by parts"])


def a_bucket(monkeypatch: pytest.MonkeyPatch, *, large: bool = False, **limits: Any) -> Bucket:
    """Return a bucket in which DATA is `large`: too much for one request."""
    monkeypatch.setattr(copying, "LARGE", 1_000 if large else 1 << 30)
    return Bucket(minimum_part=100, **limits)


async def copied(
    bucket: Bucket,
    info: ObjectInfo | None = None,
    *,
    target: bytes = b"b",
    mtime_ns: int | None = None,
    mark: str = "",
    concurrency: int = 3,
) -> PutReply:
    return await copy_object(
        bucket.client,
        b"a",
        target,
        info or bucket.info(b"a"),
        mtime_ns=mtime_ns,
        exclusive_mark=mark,
        concurrency=concurrency,
    )


# -- what travels along ---------------------------------------------------------------------------


@AS_LARGE
@pytest.mark.parametrize("options", [OWN, RARE, PutOptions()], ids=["own", "rare", "none"])
def test_everything_travels_along(
    monkeypatch: pytest.MonkeyPatch, options: PutOptions, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA, options)
        before = bucket.info(b"a")
        reply = await copied(bucket)
        info = bucket.info(b"b")
        assert bucket.read(b"b") == DATA
        assert (info.content_type, info.storage_class, info.metadata) == (
            before.content_type,
            before.storage_class,
            before.metadata,
        )
        assert reply == PutReply(info.etag, before.crc64)
        assert (bucket.store.count("copy_part") > 1) is large
        assert not bucket.uploads()

    run(main)


@AS_LARGE
def test_a_time_that_is_given_goes_to_the_metadata(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA, PutOptions("text/x-own", {"k": "v", MTIME: "1"}))
        await copied(bucket, mtime_ns=1_500_000_000)
        info = bucket.info(b"b")
        assert (info.content_type, info.metadata) == ("text/x-own", {"k": "v", MTIME: "1.5"})

    run(main)


@pytest.mark.parametrize("options", [OWN, RARE], ids=["standard", "rare"])
def test_one_request_keeps_it_all_but_a_class_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch, options: PutOptions
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA, options)
        given: list[PutOptions | None] = []
        original = bucket.inner.copy

        def copy(
            source: bytes,
            target: bytes,
            *,
            if_match: str | None = None,
            options: PutOptions | None = None,
            deadline: float,
        ) -> PutReply:
            given.append(options)
            return original(source, target, if_match=if_match, options=options, deadline=deadline)

        monkeypatch.setattr(bucket.inner, "copy", copy)
        await copied(bucket)
        assert [call.op for call in bucket.store.calls] == ["copy"]
        assert given == [None if options is OWN else RARE]

    run(main)


def test_an_empty_object_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", b"", OWN)
        await copied(bucket, mtime_ns=1)
        assert bucket.state() == {b"a": b"", b"b": b""}

    run(main)


# -- one version ----------------------------------------------------------------------------------


@AS_LARGE
def test_a_source_that_changed_is_not_copied(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA)
        info = bucket.info(b"a")
        bucket.put(b"a", DATA + b"more")
        bucket.put(b"b", b"before")
        with pytest.raises(Changed):
            await copied(bucket, info)
        assert bucket.read(b"b") == b"before"
        assert not bucket.uploads()

    run(main)


def test_a_source_that_changes_between_two_parts_is_not_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"a", DATA)
        parts = 0

        async def gate(op: str, _key: bytes) -> None:
            nonlocal parts
            parts += op == "copy_part"
            if parts == 5:
                bucket.put(b"a", DATA[::-1])

        bucket.gate = gate
        with pytest.raises(Changed):
            await copied(bucket, concurrency=1)
        assert list(bucket.state()) == [b"a"]
        assert bucket.store.count("copy_part") < 10
        assert not bucket.uploads()

    run(main)


@AS_LARGE
def test_a_source_that_is_gone_is_not_found(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA)
        info = bucket.info(b"a")
        bucket.delete(b"a")
        with pytest.raises(NotFound):
            await copied(bucket, info)
        assert not bucket.state()
        assert not bucket.uploads()

    run(main)


# -- nothing is replaced --------------------------------------------------------------------------


@AS_LARGE
def test_noreplace_never_replaces(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA, OWN)
        bucket.put(b"b", b"another's")
        with pytest.raises(Exists):
            await copied(bucket, mark="mine")
        assert bucket.read(b"b") == b"another's"
        assert not bucket.uploads()

    run(main)


def test_noreplace_loses_to_who_comes_while_parts_are_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"a", DATA)
        bucket.when("complete_upload", b"b", lambda: bucket.put(b"b", DATA))
        with pytest.raises(Exists):
            await copied(bucket, mark="mine")
        assert MARK not in bucket.info(b"b").metadata
        assert not bucket.uploads()

    run(main)


@AS_LARGE
def test_noreplace_knows_its_own_copy_whose_reply_was_lost(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.put(b"a", DATA, OWN)
        bucket.store.add(Rule("complete_upload" if large else "copy", LoseReply(DOWN)))
        await copied(bucket, mark="mine")
        assert bucket.info(b"b").metadata == {"k": "v", MARK: "mine"}

    run(main)


# -- right or not there ---------------------------------------------------------------------------


def test_a_wrong_copy_is_an_error_and_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        info = replace(bucket.info(b"a"), crc64=1)  # all replies will seem wrong
        with overheard() as said, pytest.raises(Corrupt):
            await copied(bucket, info)
        assert any("removed b'b'" in line for line in said)
        assert bucket.state() == {b"a": DATA}

    run(main)


def test_a_wrong_copy_that_somebody_has_replaced_is_not_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        info = replace(bucket.info(b"a"), crc64=1)
        bucket.when("head", b"b", lambda: bucket.put(b"b", b"another's"))
        with overheard(), pytest.raises(Corrupt):
            await copied(bucket, info)
        assert bucket.read(b"b") == b"another's"

    run(main)


def test_a_copy_that_is_right_after_all_is_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        info = bucket.info(b"a")
        wrong, unsure = Rule("copy", CorruptCrc(), times=None), Rule("head", CorruptCrc())
        bucket.store.add(wrong, unsure)
        with overheard(), pytest.raises(Corrupt):
            await copied(bucket, info)
        assert bucket.store.fired(wrong)
        assert bucket.store.fired(unsure)
        assert bucket.read(b"b") == DATA

    run(main)


def test_wrong_parts_never_become_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"a", DATA)
        bucket.put(b"b", b"before")
        bucket.store.add(Rule("copy_part", CorruptCrc(), nth=3))
        with overheard(), pytest.raises(Corrupt):
            await copied(bucket)
        assert bucket.read(b"b") == b"before"
        assert not bucket.uploads()
        assert not bucket.store.count("complete_upload")

    run(main)


def test_a_removal_that_fails_is_said_and_the_copy_is_still_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        bucket.store.add(Rule("delete", Raise(Denied("no")), times=None))
        with overheard() as said, pytest.raises(Corrupt):
            await copied(bucket, replace(bucket.info(b"a"), crc64=1))
        assert any("b'b' may hold other bytes" in line for line in said)

    run(main)


# -- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "large", "limits", "count"),
    [
        (1_000, 1_000, {}, 0),
        (1_001, 1_000, {}, 2),
        (3_000, 1_000, {}, 3),
        (3_001, 1_000, {}, 4),
        (10_240, 1 << 30, {"maximum_copy_part": 3_000}, 4),
        (10_240, 1_000, {"maximum_parts": 5}, 5),
        (150, 100, {}, 2),
        (150, 50, {}, 2),
        (90, 50, {}, 1),
    ],
)
def test_pieces_are_even_and_within_the_limits(
    monkeypatch: pytest.MonkeyPatch, size: int, large: int, limits: dict[str, Any], count: int
) -> None:
    async def main() -> None:
        monkeypatch.setattr(copying, "LARGE", large)
        bucket = Bucket(**{"minimum_part": 100, "maximum_copy_part": 5_000, **limits})
        bucket.put(b"a", DATA[:size])
        await copied(bucket)
        sizes = [call.size for call in bucket.store.calls if call.op == "copy_part"]
        assert len(sizes) == count
        assert len(set(sorted(sizes)[1:])) <= 1  # all but the last, which is the rest
        assert bucket.read(b"b") == DATA[:size]

    run(main)


def test_what_no_upload_can_hold_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, maximum_copy_part=1_000, maximum_parts=10)
        bucket.put(b"a", DATA)
        with pytest.raises(TooLarge):
            await copied(bucket)
        assert not bucket.store.calls

    run(main)


def test_so_many_parts_are_copied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"a", DATA)
        most = await most_at_once(bucket, "copy_part", lambda: copied(bucket, concurrency=4))
        assert most == 4

    run(main)


def test_an_upload_that_cannot_be_aborted_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"a", DATA)
        bucket.store.add(
            Rule("copy_part", Raise(Denied("no")), nth=2, times=None),
            Rule("abort_upload", Raise(Denied("no")), times=None),
        )
        with overheard() as said, pytest.raises(Denied):
            await copied(bucket)
        assert any("an upload of b'b' is left behind" in line for line in said)

    run(main)


def test_a_copy_that_is_cancelled_leaves_no_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        for nth in itertools.count(1):
            bucket = a_bucket(monkeypatch, large=True)
            bucket.put(b"a", DATA)
            arrived = 0
            with trio.CancelScope() as scope:

                async def gate(
                    op: str, _key: bytes, scope: trio.CancelScope = scope, nth: int = nth
                ) -> None:
                    nonlocal arrived
                    arrived += op != "abort_upload"
                    if arrived == nth:
                        scope.cancel()
                        await trio.lowlevel.checkpoint()

                bucket.gate = gate
                await copied(bucket)
            assert not bucket.uploads()
            assert bucket.state().get(b"b", DATA) == DATA
            if not scope.cancelled_caught:
                break
        assert nth > 12

    run(main)


# -- onto itself ----------------------------------------------------------------------------------


@AS_LARGE
def test_an_object_gets_another_time_by_a_copy_onto_itself(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, maximum_copy_part=1_000 if large else 1 << 30)
        bucket.put(b"a", DATA, RARE)
        reply = await copied(bucket, target=b"a", mtime_ns=2_000_000_000)
        info = bucket.info(b"a")
        assert (info.metadata, info.storage_class) == ({"k": "v", MTIME: "2"}, "IA")
        assert reply.etag == info.etag
        assert (bucket.store.count("copy_part") > 1) is large
        assert bucket.read(b"a") == DATA

    run(main)


def test_a_large_object_stays_what_it_is_when_only_its_metadata_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.append(b"a", DATA)
        await copied(bucket, target=b"a", mtime_ns=1)
        assert [call.op for call in bucket.store.calls] == ["copy"]

    run(main)


def test_an_object_that_changes_while_its_parts_are_copied_onto_it_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, maximum_copy_part=1_000)
        bucket.put(b"a", DATA)
        bucket.when("head", b"a", lambda: bucket.put(b"a", b"newer"))
        with pytest.raises(Changed):
            await copied(bucket, target=b"a", mtime_ns=1)
        assert bucket.read(b"a") == b"newer"
        assert not bucket.uploads()

    run(main)


def test_the_only_object_there_is_is_never_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        with overheard(), pytest.raises(Corrupt):
            await copied(bucket, replace(bucket.info(b"a"), crc64=1), target=b"a", mtime_ns=1)
        assert bucket.read(b"a") == DATA

    run(main)


def test_an_appendable_object_is_never_read_and_put_onto_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.append(b"a", DATA)
        bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None))
        with overheard(), pytest.raises(Invalid):
            await copied(bucket, target=b"a", mtime_ns=1)
        assert bucket.info(b"a").type is ObjectType.APPENDABLE

    run(main)


# -- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["", "mine"])
def test_a_symlink_is_made_anew_wherever_it_leads(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.link(b"a", b"nowhere")
        info = ObjectInfo(0, 0, "", ObjectType.SYMLINK)
        await copied(bucket, info, mark=mark)
        assert bucket.state() == {b"a": b"-> nowhere", b"b": b"-> nowhere"}

    run(main)


def test_a_symlink_is_copied_though_a_full_head_describes_its_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=True)
        bucket.put(b"t", DATA)
        bucket.link(b"a", b"t")
        assert bucket.info(b"a").size == len(DATA)
        await copied(bucket)
        assert bucket.target_of(b"b") == b"t"

    run(main)


def test_a_symlink_replaces_nothing_when_it_must_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.link(b"a", b"nowhere")
        bucket.put(b"b", b"another's")
        with pytest.raises(Exists):
            await copied(bucket, ObjectInfo(0, 0, "", ObjectType.SYMLINK), mark="mine")
        assert bucket.read(b"b") == b"another's"

    run(main)


# -- appendable objects ---------------------------------------------------------------------------


REFUSALS = [
    NO_SOURCE,
    NotAppendable("no", status=409, code="ObjectNotAppendable"),
    StoreError("no", status=405, code="MethodNotAllowed"),
]


@AS_LARGE
def test_an_appendable_object_is_copied_like_others_where_the_store_does(
    monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        bucket.append(b"a", DATA)
        await copied(bucket)
        assert bucket.read(b"b") == DATA
        assert not bucket.store.count("get_range_into")

    run(main)


@AS_LARGE
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("piece", [1_000, 1 << 20], ids=["parts", "one put"])
def test_an_appendable_object_that_the_store_does_not_copy_is_read_and_put(
    monkeypatch: pytest.MonkeyPatch, piece: int, refusal: StoreError, large: bool
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch, large=large)
        monkeypatch.setattr(copying, "PIECE", piece)
        bucket.append(b"a", DATA)
        op = "copy_part" if large else "copy"
        bucket.store.add(Rule(op, Raise(refusal), times=None))
        with overheard():
            await copied(bucket, mtime_ns=1_000_000_000)
        info = bucket.info(b"b")
        assert bucket.read(b"b") == DATA
        assert (info.content_type, info.metadata) == ("text/plain", {MTIME: "1"})
        assert info.type is not ObjectType.APPENDABLE
        assert not bucket.uploads()

    run(main)


@pytest.mark.parametrize(
    "error", [DOWN, Denied("no"), Changed("no")], ids=lambda e: type(e).__name__
)
def test_other_errors_do_not_make_an_appendable_object_be_read(
    monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.append(b"a", DATA)
        bucket.store.add(Rule("copy", Raise(error), times=None))
        with overheard(), pytest.raises(type(error)):
            await copied(bucket)
        assert not bucket.store.count("get_range_into")

    run(main)


def test_a_refusal_to_copy_another_object_is_the_callers_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.put(b"a", DATA)
        bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None))
        with overheard(), pytest.raises(Invalid):
            await copied(bucket)

    run(main)


@pytest.mark.parametrize("piece", [1_000, 1 << 20], ids=["parts", "one put"])
def test_what_was_read_damaged_replaces_nothing(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        monkeypatch.setattr(copying, "PIECE", piece)
        bucket.append(b"a", DATA)
        bucket.put(b"b", b"before")
        bucket.store.add(
            Rule("copy", Raise(NO_SOURCE), times=None), Rule("get_range_into", CorruptByte(5))
        )
        with overheard(), pytest.raises(Corrupt):
            await copied(bucket)
        assert bucket.read(b"b") == b"before"
        assert not bucket.uploads()

    run(main)


def test_an_append_while_the_object_is_read_is_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        monkeypatch.setattr(copying, "PIECE", 1_000)
        bucket.append(b"a", DATA)
        bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None))

        def append() -> None:
            bucket.inner.append(b"a", len(DATA), [b"more"], deadline=0)

        bucket.when("upload_part", b"b", append)
        with overheard(), pytest.raises(Changed):
            await copied(bucket)
        assert list(bucket.state()) == [b"a"]
        assert not bucket.uploads()

    run(main)


def test_few_objects_are_read_at_once_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        bucket = a_bucket(monkeypatch)
        bucket.append(b"a", DATA)
        bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None))
        info = bucket.info(b"a")

        async def many() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(3 * copying.READERS):
                    target = b"b%d" % number
                    nursery.start_soon(partial(copied, bucket, info, target=target))

        with overheard():
            assert await most_at_once(bucket, "get_range_into", many) == copying.READERS
        assert set(bucket.state().values()) == {DATA}

    run(main)


# -- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one request", "by parts", "read", "read by parts"])
@pytest.mark.parametrize("mark", ["", "mine"])
@pytest.mark.parametrize("times", [1, None], ids=["once", "for ever"])
def test_whatever_fails_the_target_is_the_old_one_or_a_whole_copy(
    monkeypatch: pytest.MonkeyPatch, kind: str, mark: str, times: int | None
) -> None:
    async def main() -> None:
        plans = 0
        monkeypatch.setattr(copying, "PIECE", 3_000 if kind == "read by parts" else 1 << 20)
        faults: list[Fault] = [
            Raise(DOWN),
            LoseReply(DOWN),
            Hang(),
            CorruptCrc(),
            CorruptByte(7),
            Raise(Denied("no", status=403, code="AccessDenied")),
        ]
        for fault, nth in itertools.product(faults, range(1, 20)):
            bucket = a_bucket(monkeypatch, large=kind == "by parts", maximum_copy_part=6_000_000)
            if kind.startswith("read"):
                bucket.append(b"a", DATA)
                bucket.store.add(Rule("copy", Raise(NO_SOURCE), times=None))
            else:
                bucket.put(b"a", DATA, OWN)
            if not mark:
                bucket.put(b"b", b"before")
            info = bucket.info(b"a")
            rule = Rule(None, fault, nth=nth, times=times)
            bucket.store.add(rule)
            with overheard():
                try:
                    await copied(bucket, info, mark=mark)
                    assert bucket.read(b"b") == DATA
                except StoreError:
                    assert bucket.store.fired(rule)
            state = bucket.state()
            assert state[b"a"] == DATA
            assert state.get(b"b", b"before") in (b"before", DATA)
            plans += bool(bucket.store.fired(rule))
        assert plans >= len(faults)

    run(main)
