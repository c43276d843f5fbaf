"""Lost replies, wrong checksums and damaged bytes of mutations: whole and ours, or an error.

Every test runs over a store in memory that misbehaves by plan, on trio's mock clock.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
import trio
from trio.testing import MockClock, trio_test

from ossfs.store.api import (
    MARK,
    Capabilities,
    Expected,
    ObjectInfo,
    PutOptions,
    PutReply,
    UploadPart,
)
from ossfs.store.client import StoreClient
from ossfs.store.crc import crc64
from ossfs.store.errors import (
    Changed,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Exists,
    NotFound,
    NoUpload,
    PositionConflict,
    StoreError,
    Throttled,
    Unavailable,
)
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.plan import CorruptCrc, Fault, Hang, LoseReply, Raise, Rule
from ossfs.store.runner import InlineRunner
from ossfs.store.settle import a_completion
from ossfs.store.wire import uploaded

DOWN = Unavailable("down", status=503, code="ServiceUnavailable")
LATE = DeadlineExceeded("late")
OLD = b"what was there before"
NEW = bytes(range(100))
EXPECTED = Expected(len(NEW), crc64([NEW]))


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


def faulty(clock: MockClock, *rules: Rule, inner: MemoryStore | None = None) -> FaultyStore:
    """A bucket with `old` and `log` (appendable), both OLD, and `source`, which is NEW."""
    inner = inner if inner is not None else MemoryStore()
    inner.append(b"log", 0, [OLD], deadline=0)
    MemoryStore.put(inner, b"old", [OLD], deadline=0)
    MemoryStore.put(inner, b"source", [NEW], deadline=0)
    return FaultyStore(inner, rules, monotonic=trio.current_time, sleep=clock.jump)


def client_of(store: FaultyStore, seed: int = 2, **parameters) -> StoreClient:
    parameters = {"request_timeout": 30.0, "inline": True} | parameters
    return StoreClient(store, rng=random.Random(seed), **parameters)


def content(store: FaultyStore, key: bytes) -> bytes | None:
    """The object's bytes; None where there is no object."""
    try:
        body = bytearray(store.head(key, deadline=0).size)
    except NotFound:
        return None
    if body:
        store.get_range_into(key, 0, [memoryview(body)], if_match=None, deadline=0)
    return bytes(body)


@dataclass(frozen=True)
class Op:
    """One mutation that makes `key` hold `whole`."""

    name: str
    key: bytes
    before: bytes | None
    call: Callable[[StoreClient, str, Expected | None], Awaitable[tuple]]
    whole: bytes = NEW
    idempotent: bool = False

    @property
    def exclusive(self) -> bool:
        return self.key == b"new"

    def expected(self, mark: str = "") -> Expected:
        return Expected(len(self.whole), crc64([self.whole]), mark)

    async def run(self, client: StoreClient, mark: str | None = None) -> tuple:
        if mark is None:
            mark = "ours" if self.exclusive else ""
        return await self.call(client, mark, self.expected(mark))


def marked(mark: str, **options) -> PutOptions:
    return PutOptions(metadata={MARK: mark} if mark else {}, **options)


async def _put(client, mark, expect):
    return await client.put(b"old", [NEW], marked(mark), expect=expect)


async def _put_new(client, mark, expect):
    return await client.put(b"new", [NEW], marked(mark, forbid_overwrite=True), expect=expect)


async def _append(client, mark, expect):
    return await client.append(b"log", len(OLD), [NEW[:40], NEW[40:]], expect=expect)


async def _append_new(client, mark, expect):
    return await client.append(b"new", 0, [NEW], marked(mark), expect=expect)


async def _complete(client, mark, expect, key=b"old"):
    upload = await client.create_upload(key, marked(mark))
    part = await client.upload_part(key, upload, 1, [NEW])
    parts = [UploadPart(1, part.etag)]
    return await client.complete_upload(
        key, upload, parts, forbid_overwrite=key == b"new", expect=expect
    )


async def _complete_new(client, mark, expect):
    return await _complete(client, mark, expect, b"new")


async def _copy(client, mark, expect):
    etag = (await client.head(b"source")).etag
    return await client.copy(b"source", b"old", if_match=etag, options=marked(mark), expect=expect)


async def _copy_new(client, mark, expect):
    options = marked(mark, forbid_overwrite=True)
    return await client.copy(b"source", b"new", options=options, expect=expect)


async def _copy_itself(client, mark, expect):
    etag = (await client.head(b"source")).etag
    options = PutOptions(metadata={"mtime": "7"})
    return await client.copy(b"source", b"source", if_match=etag, options=options, expect=expect)


OPS = {
    "put": Op("put", b"old", OLD, _put, idempotent=True),
    "put_new": Op("put", b"new", None, _put_new),
    "append": Op("append", b"log", OLD, _append, OLD + NEW),
    "append_new": Op("append", b"new", None, _append_new),
    "complete": Op("complete_upload", b"old", OLD, _complete),
    "complete_new": Op("complete_upload", b"new", None, _complete_new),
    "copy": Op("copy", b"old", OLD, _copy, idempotent=True),
    "copy_new": Op("copy", b"new", None, _copy_new),
    "copy_itself": Op("copy", b"source", NEW, _copy_itself),
}
FAULTS: dict[str, tuple[Fault, int | None]] = {
    "reply lost": (LoseReply(DOWN), 1),
    "reply lost in time": (LoseReply(LATE), 1),
    "every reply lost": (LoseReply(DOWN), None),
    "down, then up": (Raise(DOWN), 2),
    "down for ever": (Raise(DOWN), None),
    "throttled": (Raise(Throttled("slow")), 3),
    "wrong crc once": (CorruptCrc(), 1),
    "wrong crc for ever": (CorruptCrc(), None),
    "hanging": (Hang(), 1),
    "hanging for ever": (Hang(), None),
}
HOPELESS = {"down for ever": Unavailable, "hanging": DeadlineExceeded,
            "hanging for ever": DeadlineExceeded}  # fmt: skip


def whole_and_ours(store: FaultyStore, op: Op, reply: tuple, mark: str = "") -> None:
    info = store.head(op.key, full=True, deadline=0)
    assert content(store, op.key) == op.whole
    assert (reply.etag, reply.crc64) == (info.etag, crc64([op.whole]))
    if mark:
        assert info.metadata[MARK] == mark
    if op.name == "append":
        assert reply.next_position == len(op.whole)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPS)
@trio_test
async def test_a_call_leaves_the_object_whole_and_ours_or_it_raises(
    mock_clock, expect_log, name, fault
):
    op = OPS[name]
    kind, times = FAULTS[fault]
    store = faulty(mock_clock, Rule(op.name, kind, key=op.key, times=times))
    reason = HOPELESS.get(fault)
    if reason is None:
        reply = await op.run(client_of(store))
        whole_and_ours(store, op, reply, "ours" if op.exclusive else "")
        if name == "copy_itself":
            assert store.head(b"source", full=True, deadline=0).metadata == {"mtime": "7"}
    else:
        expect_log(f"{op.name} .* failed after")
        with pytest.raises(reason):
            await op.run(client_of(store))
        assert content(store, op.key) == op.before


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if not op.idempotent])
@trio_test
async def test_a_lost_success_is_found_by_head_and_nothing_is_sent_again(mock_clock, name):
    op = OPS[name]
    store = faulty(mock_clock, Rule(op.name, LoseReply(DOWN), key=op.key))
    reply = await op.run(client_of(store))
    whole_and_ours(store, op, reply)
    assert store.count(op.name, op.key) == 1


@pytest.mark.parametrize("name", OPS)
@trio_test
async def test_no_head_is_sent_where_nothing_is_in_doubt(mock_clock, name):
    op = OPS[name]
    plan = Rule(op.name, Raise(Throttled("slow")), key=op.key, times=2)
    store = faulty(mock_clock, plan)
    await op.run(client_of(store))
    heads = store.count("head")
    store = faulty(mock_clock)
    await op.run(client_of(store))
    assert store.count("head") == heads <= 1


# -- a request that arrives late, or with the last attempt ----------------------------------------


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("append", PositionConflict),
        ("complete", NoUpload),
        ("put_new", Exists),
        ("copy_new", Exists),
        ("complete_new", NoUpload),
    ],
)
@trio_test
async def test_a_request_that_lands_between_the_head_and_its_repetition_is_known_again(
    mock_clock, name, answer
):
    op = OPS[name]
    store = faulty(mock_clock)
    perform = getattr(store, op.name)
    met: list[StoreError] = []

    def late(*args, **kwargs):
        if not met:
            met.append(LATE)
            raise DeadlineExceeded("late")
        perform(*args, **kwargs)  # what was sent first
        try:
            return perform(*args, **kwargs)
        except StoreError as error:
            met.append(error)
            raise

    setattr(store, op.name, late)
    reply = await op.run(client_of(store))
    setattr(store, op.name, perform)
    whole_and_ours(store, op, reply)
    assert type(met[1]) is answer
    met.clear()


@pytest.mark.parametrize("name", ["complete", "put_new", "copy_new", "complete_new"])
@trio_test
async def test_a_refusal_by_what_a_proxy_sent_twice_hides_no_success(mock_clock, name):
    op = OPS[name]
    store = faulty(mock_clock)
    perform = getattr(store, op.name)

    def twice(*args, **kwargs):
        perform(*args, **kwargs)
        return perform(*args, **kwargs)

    setattr(store, op.name, twice)
    reply = await op.run(client_of(store))
    setattr(store, op.name, perform)
    whole_and_ours(store, op, reply)


@pytest.mark.parametrize("name", OPS)
@trio_test
async def test_a_success_of_the_last_attempt_is_found_by_a_last_head(mock_clock, name):
    op = OPS[name]
    store = faulty(
        mock_clock,
        Rule(op.name, Raise(DOWN), key=op.key, times=4),
        Rule(op.name, LoseReply(DOWN), key=op.key, nth=5, times=None),
    )
    reply = await op.run(client_of(store))
    whole_and_ours(store, op, reply)
    assert store.count(op.name, op.key) == 5


@pytest.mark.parametrize("name", OPS)
@trio_test
async def test_a_success_after_which_the_deadline_passed_is_found_by_a_last_head(mock_clock, name):
    op = OPS[name]
    store = faulty(mock_clock)
    perform = getattr(store, op.name)

    def slowly(*args, **kwargs):
        perform(*args, **kwargs)
        mock_clock.jump(30.0)
        raise DeadlineExceeded("late")

    setattr(store, op.name, slowly)
    reply = await op.run(client_of(store))
    setattr(store, op.name, perform)
    whole_and_ours(store, op, reply)
    assert store.count(op.name, op.key) == 1


@pytest.mark.parametrize("error", [DOWN, Denied("no", status=403, code="AccessDenied")])
@pytest.mark.parametrize("name", ["append", "complete", "put_new", "copy_new"])
@trio_test
async def test_when_the_head_fails_too_the_first_error_is_raised_and_nothing_repeated(
    mock_clock, expect_log, name, error
):
    op = OPS[name]
    expect_log(f"{op.name} .* failed after 1 attempt.*DeadlineExceeded: late")
    expect_log("head .* failed after")
    store = faulty(
        mock_clock,
        Rule(op.name, LoseReply(LATE), key=op.key),
        Rule("head", Raise(error), key=op.key, times=None),
    )
    with pytest.raises(DeadlineExceeded, match="late"):
        await op.run(client_of(store))
    store.heal()
    assert store.count(op.name, op.key) == 1
    assert content(store, op.key) == op.whole


@trio_test
async def test_a_head_that_outlasts_the_request_is_its_last_word(mock_clock, expect_log):
    expect_log("append .* failed after 1 attempt")
    store = faulty(mock_clock, Rule("append", Raise(DOWN)))
    head = store.head

    def slowly(*args, **kwargs):
        mock_clock.jump(31.0)
        return head(*args, **kwargs)

    store.head = slowly
    with pytest.raises(Unavailable):
        await OPS["append"].run(client_of(store))
    store.head = head
    assert content(store, b"log") == OLD


# -- what is not ours ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("name", ["put_new", "complete_new", "copy_new"])
@trio_test
async def test_of_two_racers_with_equal_bytes_exactly_one_wins(mock_clock, name, lost):
    op = OPS[name]
    for seed in range(10):
        store = faulty(
            mock_clock, *(Rule(op.name, LoseReply(DOWN), key=b"new", nth=nth) for nth in lost)
        )
        dice = random.Random(seed)

        async def gate(op: str, key: bytes, dice: random.Random = dice) -> None:
            await trio.sleep(dice.uniform(0, 0.3))

        outcomes: dict[str, tuple | Exists] = {}

        async def race(mark: str, client: StoreClient, outcomes: dict = outcomes) -> None:
            try:
                outcomes[mark] = await op.run(client, mark)
            except Exists as error:
                outcomes[mark] = error

        async with trio.open_nursery() as nursery:
            for mark in ("one", "other"):
                client = client_of(store, dice.random(), runner=InlineRunner(gate))
                nursery.start_soon(race, mark, client)
        [winner] = [mark for mark, outcome in outcomes.items() if isinstance(outcome, tuple)]
        whole_and_ours(store, op, outcomes[winner], winner)
        outcomes.clear()


@pytest.mark.parametrize("name", ["put_new", "complete_new", "copy_new"])
@trio_test
async def test_without_a_mark_equal_bytes_under_an_exclusive_name_are_never_ours(
    mock_clock, expect_log, name
):
    op = OPS[name]
    store = faulty(mock_clock, Rule(op.name, LoseReply(DOWN), key=b"new"))
    with pytest.raises((Exists, NoUpload)) as raised:
        await op.run(client_of(store), mark="")
    if raised.type is NoUpload:
        expect_log("complete_upload 'new' failed after 2 attempt")
    calls = store.count("head")
    with pytest.raises(Exists):
        await OPS["put_new"].run(client_of(store), mark="")
    assert store.count("head") == calls


@trio_test
async def test_an_equal_append_of_another_client_does_not_pass_for_ours(mock_clock):
    op = OPS["append"]
    store = faulty(mock_clock)
    await op.run(client_of(store))
    with pytest.raises(PositionConflict):
        await op.run(client_of(store))
    assert content(store, b"log") == OLD + NEW
    assert store.count("head", b"log") == 1  # the test's own


@trio_test
async def test_an_append_after_which_another_client_wrote_is_a_conflict(mock_clock):
    store = faulty(mock_clock)
    append = store.append

    def overtaken(key, position, data, *args, **kwargs):
        append(key, position, data, *args, **kwargs)
        store.append = append
        append(key, position + len(NEW), [b"more"], deadline=0)
        raise Unavailable("down")

    store.append = overtaken
    with pytest.raises(PositionConflict):
        await OPS["append"].run(client_of(store))
    assert content(store, b"log") == OLD + NEW + b"more"


@trio_test
async def test_a_normal_object_of_the_same_bytes_is_not_what_an_append_made(mock_clock, expect_log):
    store = faulty(mock_clock)

    def replaced(*args, **kwargs):
        store.put(b"log", [OLD + NEW], deadline=0)
        raise DeadlineExceeded("late")

    append, store.append = store.append, replaced
    expect_log("append 'log' failed after")
    with pytest.raises(DeadlineExceeded):
        await OPS["append"].run(client_of(store))
    store.append = append


@trio_test
async def test_a_link_to_equal_bytes_is_not_what_a_put_made(mock_clock, expect_log):
    store = faulty(mock_clock, Rule("put", Raise(DOWN), times=None))
    store.put_symlink(b"link", b"source", deadline=0)
    expect_log("put 'link' failed after 5 attempt")
    with pytest.raises(Unavailable):
        await client_of(store).put(b"link", [NEW], expect=EXPECTED)


@trio_test
async def test_an_earlier_object_of_the_same_bytes_is_not_a_put_of_other_metadata(
    mock_clock, expect_log
):
    store = faulty(mock_clock, Rule("put", Raise(DOWN), times=None))
    expect_log("put 'source' failed after 5 attempt")
    with pytest.raises(Unavailable):
        await client_of(store).put(
            b"source", [NEW], PutOptions(metadata={"mtime": "7"}), expect=EXPECTED
        )


@trio_test
async def test_a_copy_onto_itself_that_was_not_performed_is_repeated(mock_clock):
    store = faulty(mock_clock, Rule("copy", Raise(DOWN)))
    await OPS["copy_itself"].run(client_of(store))
    assert store.head(b"source", full=True, deadline=0).metadata == {"mtime": "7"}
    assert store.count("copy") == 2


@pytest.mark.parametrize("remove", [False, True])
@trio_test
async def test_a_copy_whose_source_changes_after_its_reply_was_lost_has_succeeded(
    mock_clock, remove
):
    store = faulty(mock_clock)
    copy = store.copy

    def lost(*args, **kwargs):
        copy(*args, **kwargs)
        store.copy = copy
        if remove:
            store.delete(b"source", deadline=0)
        else:
            store.put(b"source", [OLD], deadline=0)
        raise Unavailable("down")

    store.copy = lost
    whole_and_ours(store, OPS["copy"], await OPS["copy"].run(client_of(store)))


@trio_test
async def test_a_changed_source_is_changed(mock_clock):
    store = faulty(mock_clock)
    with pytest.raises(Changed):
        await client_of(store).copy(b"source", b"old", if_match="OTHER", expect=EXPECTED)
    assert store.count("head") == 0


@trio_test
async def test_an_upload_that_somebody_dropped_is_no_success(mock_clock, expect_log):
    expect_log("complete_upload 'old' failed after 1 attempt.*NoUpload")
    store = faulty(mock_clock)
    client = client_of(store)
    upload = await client.create_upload(b"old")
    part = await client.upload_part(b"old", upload, 1, [NEW])
    await client.abort_upload(b"old", upload)
    with pytest.raises(NoUpload):
        await client.complete_upload(b"old", upload, [UploadPart(1, part.etag)], expect=EXPECTED)
    assert content(store, b"old") == OLD


@pytest.mark.parametrize("mark", ["", "ours"])
@trio_test
async def test_in_a_store_without_checksums_only_a_mark_proves_a_success(mock_clock, mark):
    store = faulty(mock_clock, inner=MemoryStore(Capabilities(crc64=False)))
    store.add(Rule("append", LoseReply(DOWN)))
    client = client_of(store)
    if mark:
        reply = await OPS["append_new"].run(client, mark)
        assert (reply.next_position, reply.crc64) == (len(NEW), None)
    else:
        with pytest.raises(PositionConflict):
            await OPS["append_new"].run(client, mark)
    assert content(store, b"new") == NEW


@trio_test
async def test_without_a_checksum_an_object_of_our_mark_and_another_length_is_not_ours(mock_clock):
    store = faulty(mock_clock, inner=MemoryStore(Capabilities(crc64=False)))
    append = store.append

    def overtaken(*args, **kwargs):
        append(*args, **kwargs)
        store.append = append
        append(b"new", len(NEW), [b"more"], deadline=0)
        raise Unavailable("down")

    store.append = overtaken
    with pytest.raises(PositionConflict):
        await OPS["append_new"].run(client_of(store))


# -- wrong checksums -------------------------------------------------------------------------------


class Damaging(MemoryStore):
    """Stores other bytes than were sent, the first `times` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def _spoilt(self, data):
        if not self.times:
            return data
        self.times -= 1
        body = bytearray(b"".join(data))
        body[3] ^= 1
        return [body]

    def put(self, key, data, *args, **kwargs):
        return super().put(key, self._spoilt(data), *args, **kwargs)

    def upload_part(self, key, upload_id, number, data, **kwargs):
        return super().upload_part(key, upload_id, number, self._spoilt(data), **kwargs)


@pytest.mark.parametrize("times", [1, 2])
@trio_test
async def test_damaged_bytes_of_a_plain_put_and_of_a_part_are_sent_again(mock_clock, times):
    store = faulty(mock_clock, inner=Damaging(times))
    client = client_of(store)
    whole_and_ours(store, OPS["put"], await OPS["put"].run(client))
    assert store.count("put", b"old") == times + 1
    store = faulty(mock_clock, inner=Damaging(times))
    client = client_of(store)
    upload = await client.create_upload(b"new")
    part = await client.upload_part(b"new", upload, 1, [NEW], crc64=crc64([NEW]))
    await client.complete_upload(b"new", upload, [UploadPart(1, part.etag)])
    assert content(store, b"new") == NEW
    assert store.count("upload_part") == times + 1


@trio_test
async def test_bytes_that_arrive_damaged_for_the_third_time_are_corrupt(mock_clock, expect_log):
    expect_log("(put|upload_part) '(old|new)' failed after 3 attempt.*Corrupt")
    store = faulty(mock_clock, inner=Damaging(100))
    client = client_of(store)
    with pytest.raises(Corrupt) as raised:
        await OPS["put"].run(client)
    assert raised.value.etag == store.head(b"old", deadline=0).etag
    assert raised.value.key == b"old"
    upload = await client.create_upload(b"new")
    with pytest.raises(Corrupt) as raised:
        await client.upload_part(b"new", upload, 1, [NEW], crc64=crc64([NEW]))
    assert raised.value.etag == ""
    assert (store.count("put", b"old"), store.count("upload_part")) == (3, 3)


@trio_test
async def test_what_the_store_itself_found_damaged_is_sent_again_without_expectations(
    mock_clock, expect_log
):
    damaged = Corrupt("damaged")
    damaged.etag = "PART"
    plan = [Rule(op, Raise(damaged), times=2) for op in ("put", "upload_part")]
    store = faulty(mock_clock, *plan)
    client = client_of(store)
    await client.put(b"old", [NEW])
    upload = await client.create_upload(b"new")
    await client.upload_part(b"new", upload, 1, [NEW])
    assert (store.count("put"), store.count("upload_part")) == (3, 3)
    expect_log("put 'new' failed after 1 attempt.*Corrupt")
    store.add(Rule("put", Raise(damaged)))
    with pytest.raises(Corrupt):
        await client.put(b"new", [NEW], PutOptions(forbid_overwrite=True))


@trio_test
async def test_a_damaged_exclusive_put_is_corrupt_at_once_and_names_the_wrong_object(
    mock_clock, expect_log
):
    expect_log("put 'new' failed after 1 attempt.*Corrupt")
    store = faulty(mock_clock, inner=Damaging(1))
    with pytest.raises(Corrupt) as raised:
        await OPS["put_new"].run(client_of(store))
    assert raised.value.etag == store.head(b"new", deadline=0).etag


@trio_test
async def test_a_wrong_object_is_told_of_though_the_store_went_down_after_it(
    mock_clock, expect_log
):
    expect_log("put 'old' failed after")
    plan = Rule("put", Raise(DOWN), key=b"old", nth=2, times=None)
    store = faulty(mock_clock, plan, inner=Damaging(1))
    with pytest.raises(Corrupt) as raised:
        await OPS["put"].run(client_of(store))
    assert raised.value.etag == store.head(b"old", deadline=0).etag
    assert isinstance(raised.value.__cause__, Unavailable)


@pytest.mark.parametrize("name", OPS)
@trio_test
async def test_a_wrong_checksum_that_head_confirms_is_corrupt_and_names_the_object(
    mock_clock, expect_log, name
):
    op = OPS[name]
    expect_log(f"{op.name} .* failed after .*Corrupt")
    store = faulty(
        mock_clock,
        Rule(op.name, CorruptCrc(), key=op.key, times=None),
        Rule("head", CorruptCrc(), key=op.key, times=None),
    )
    with pytest.raises(Corrupt) as raised:
        await op.run(client_of(store))
    assert raised.value.etag == store.head(op.key, deadline=0).etag
    assert store.count(op.name, op.key) == (3 if name == "put" else 1)
    assert content(store, op.key) == op.whole


@pytest.mark.parametrize("name", ["put_new", "complete_new", "copy_new"])
@trio_test
async def test_a_wrong_checksum_in_the_reply_alone_is_settled_without_a_mark_too(mock_clock, name):
    op = OPS[name]
    store = faulty(mock_clock, Rule(op.name, CorruptCrc(), key=op.key))
    whole_and_ours(store, op, await op.run(client_of(store), mark=""))


@trio_test
async def test_a_wrong_checksum_is_not_excused_by_a_head_that_tells_none(mock_clock, expect_log):
    expect_log("put 'new' failed after 1 attempt.*Corrupt")
    store = faulty(mock_clock, Rule("put", CorruptCrc(), key=b"new"))
    head = store.head
    store.head = lambda *args, **kwargs: replace(head(*args, **kwargs), crc64=None)
    with pytest.raises(Corrupt):
        await OPS["put_new"].run(client_of(store))
    store.head = head


@trio_test
async def test_damaged_bytes_are_not_sent_again_past_the_deadline(mock_clock, expect_log):
    expect_log("put 'old' failed after 1 attempt.*Corrupt")
    store = faulty(mock_clock, inner=Damaging(1))
    put = store.put

    def slowly(*args, **kwargs):
        mock_clock.jump(30.0)
        return put(*args, **kwargs)

    store.put = slowly
    with pytest.raises(Corrupt):
        await OPS["put"].run(client_of(store))
    store.put = put


@trio_test
async def test_an_append_that_ends_elsewhere_than_expected_is_corrupt(mock_clock, expect_log):
    expect_log("append 'log' failed after 1 attempt.*Corrupt.*121, not 120")
    expect = replace(OPS["append"].expected(), size=120, crc64=None)
    with pytest.raises(Corrupt):
        await _append(client_of(faulty(mock_clock)), "", expect)


def test_an_upload_whose_reply_has_another_checksum_names_its_etag():
    headers = {"etag": '"E"', "x-oss-hash-crc64ecma": "5"}
    with pytest.raises(Corrupt) as raised:
        uploaded(b"k", headers, b"", 6)
    assert raised.value.etag == "E"


def test_where_no_crc_is_known_an_etag_that_only_these_bytes_have_tells_our_upload() -> None:
    ours = a_completion(Expected(9, None, etag="abc-2"), exclusive=False)
    ours.failed(DOWN)
    assert ours.settled(ObjectInfo(9, 0, "abc-2")) == PutReply("abc-2", None)
    assert ours.settled(ObjectInfo(9, 0, "abd-2")) is None
    assert ours.settled(ObjectInfo(8, 0, "abc-2")) is None
    unknown = a_completion(Expected(9, None), exclusive=False)
    unknown.failed(DOWN)
    assert unknown.settled(ObjectInfo(9, 0, "abc-2")) is None
    exclusive = a_completion(Expected(9, None, etag="abc-2"), exclusive=True)
    exclusive.failed(DOWN)
    assert exclusive.settled(ObjectInfo(9, 0, "abc-2")) is None
