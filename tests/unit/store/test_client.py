"""StoreClient: retries, deadlines, resumption, refresh, logging; on trio's mock clock.

The store is called on the loop (`inline=True`), so that time is exact; the last tests use threads.
"""

from __future__ import annotations

import random
import threading

import pytest
import trio
from trio.testing import MockClock, trio_test, wait_all_tasks_blocked

from ossfs.store.api import PutOptions, UploadPart
from ossfs.store.client import StoreClient
from ossfs.store.errors import (
    Changed,
    DeadlineExceeded,
    Denied,
    Exists,
    Expired,
    NotFound,
    Throttled,
    Truncated,
    Unavailable,
)
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.plan import (
    CorruptByte,
    ExpireToken,
    Hang,
    Hold,
    LoseReply,
    Raise,
    Rule,
    TruncateBody,
)
from ossfs.store.retry import RetryPolicy
from ossfs.store.runner import InlineRunner
from ossfs.store.transfer import TransferPool
from ossfs.store.watch import ClientStats

DOWN = Unavailable("down", status=503, code="ServiceUnavailable")
BODY = bytes(range(100))


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


@pytest.fixture
def store(mock_clock: MockClock) -> FaultyStore:
    inner = MemoryStore()
    inner.put(b"a", [BODY], deadline=0)
    return FaultyStore(inner, monotonic=trio.current_time, sleep=mock_clock.jump)


def client_of(store: FaultyStore, **parameters) -> StoreClient:
    parameters = {"request_timeout": 30.0, "rng": random.Random(2), "inline": True} | parameters
    return StoreClient(store, **parameters)


async def etag_of(client: StoreClient) -> str:
    return (await client.head(b"a")).etag


@trio_test
async def test_a_request_succeeds_after_transient_failures(store, mock_clock):
    store.add(Rule("head", Raise(DOWN), times=3))
    client = client_of(store)
    began = trio.current_time()
    assert (await client.head(b"a")).size == 100
    assert 0 < trio.current_time() - began <= 0.2 + 0.4 + 0.8
    assert store.count("head") == 4
    assert (client.stats.retries, client.stats.failures) == (3, 0)
    assert client.stats.requests == {"head": 4}


@trio_test
async def test_it_gives_up_after_its_attempts_and_names_key_code_and_request(
    store, mock_clock, expect_log
):
    expect_log(r"head 'a' failed after 5 attempt\(s\): Unavailable.*ServiceUnavailable.*REQ1")
    store.add(Rule("head", Raise(Unavailable("x", code="ServiceUnavailable", request_id="REQ1")),
                   times=None))  # fmt: skip
    with pytest.raises(Unavailable):
        await client_of(store).head(b"a")
    assert store.count("head") == 5


@trio_test
async def test_answers_are_neither_repeated_nor_logged(store, mock_clock):
    client = client_of(store)
    with pytest.raises(NotFound):
        await client.head(b"none")
    with pytest.raises(Changed):
        await client.get_range_into(b"a", 0, [memoryview(bytearray(1))], if_match="OTHER")
    with pytest.raises(Exists):
        await client.put(b"a", [b""], PutOptions(forbid_overwrite=True))
    assert len(store.calls) == 3
    assert client.stats.failures == 3


@trio_test
async def test_a_failed_probe_is_its_callers_to_report(store, mock_clock):
    store.add(Rule("probe", Raise(Denied("no", status=403, code="AccessDenied"))))
    with pytest.raises(Denied):
        await client_of(store).probe()


@trio_test
async def test_all_attempts_share_one_deadline(store, mock_clock, expect_log):
    expect_log("head 'a' failed after 1 attempt.*DeadlineExceeded")
    store.add(Rule("head", Hang(), times=None))
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await client_of(store, request_timeout=7.0).head(b"a")
    assert trio.current_time() - began == pytest.approx(7.0)


def test_the_quickest_request_is_forgotten_slowly():
    stats = ClientStats()
    for seconds in (0.02, 0.001, 0.05):
        stats.note_first_bytes(seconds)
    assert stats.quickest < 0.002
    for _ in range(50):
        stats.note_first_bytes(0.05)
    assert stats.quickest == 0.05


@trio_test
async def test_the_account_rate_limit_is_waited_out_until_the_deadline(
    store, mock_clock, expect_log
):
    expect_log("QpsLimitExceeded")
    store.add(Rule("head", Raise(Throttled("slow", code="TotalQpsLimitExceeded")), times=None))
    began = trio.current_time()
    with pytest.raises(Throttled):
        await client_of(store, request_timeout=60.0).head(b"a")
    assert store.count("head") > 5
    assert 45 < trio.current_time() - began <= 60


@trio_test
async def test_retry_after_is_honoured(store, mock_clock):
    patient = Throttled("slow")
    patient.retry_after = 3.0
    store.add(Rule("head", Raise(patient)))
    began = trio.current_time()
    await client_of(store).head(b"a")
    assert 3.0 <= trio.current_time() - began <= 3.2


@trio_test
async def test_a_body_that_breaks_off_is_resumed_at_the_first_buffer_not_full(store, mock_clock):
    client = client_of(store)
    etag = await etag_of(client)
    store.add(Rule("get_range_into", TruncateBody(45)))
    buffers = [bytearray(20) for _ in range(4)]
    told: list[int] = []
    reply = await client.get_range_into(
        b"a", 10, [memoryview(b) for b in buffers], if_match=etag, on_filled=told.append
    )
    assert b"".join(buffers) == BODY[10:90]
    assert told == [0, 1, 2, 3]
    assert reply == (etag, 100)
    assert [(c.offset, c.size) for c in store.calls[1:]] == [(10, 80), (50, 40)]
    assert client.stats.bytes_read == 80


@trio_test
async def test_a_body_that_makes_progress_is_resumed_more_often_than_attempts(store, mock_clock):
    client = client_of(store, retry=RetryPolicy(attempts=2))
    etag = await etag_of(client)
    store.add(Rule("get_range_into", TruncateBody(10), times=9))
    buffers = [bytearray(10) for _ in range(10)]
    await client.get_range_into(b"a", 0, [memoryview(b) for b in buffers], if_match=etag)
    assert b"".join(buffers) == BODY
    assert store.count("get_range_into") == 10


@trio_test
async def test_a_body_that_makes_progress_has_time_for_more(store, mock_clock, expect_log):
    expect_log("waiting for the store: 1 request.* get_range_into 'a'")
    client = client_of(store, request_timeout=30.0)
    etag = await etag_of(client)
    store.add(Rule("get_range_into", TruncateBody(10), times=9))
    buffers = [bytearray(10) for _ in range(10)]
    await client.get_range_into(
        b"a",
        0,
        [memoryview(b) for b in buffers],
        if_match=etag,
        on_filled=lambda _: mock_clock.jump(40.0),
    )
    assert b"".join(buffers) == BODY
    assert trio.current_time() > 360.0


@trio_test
async def test_a_body_that_stands_still_ends_at_its_deadline(store, mock_clock, expect_log):
    expect_log("get_range_into 'a' failed after 3 attempt.*DeadlineExceeded")
    client = client_of(store, request_timeout=30.0)
    etag = await etag_of(client)
    store.add(Rule("get_range_into", TruncateBody(10), times=2))
    store.add(Rule("get_range_into", Hang(), nth=3, times=None))
    buffers = [bytearray(10) for _ in range(10)]
    began = trio.current_time()
    with pytest.raises(DeadlineExceeded):
        await client.get_range_into(b"a", 0, [memoryview(b) for b in buffers], if_match=etag)
    assert 30.0 <= trio.current_time() - began <= 31.0


@trio_test
async def test_without_an_etag_a_begun_body_is_not_continued(store, mock_clock, expect_log):
    expect_log("get_range_into 'a' failed after 1 attempt.*Truncated")
    client = client_of(store)
    store.add(Rule("get_range_into", TruncateBody(25)))
    buffers = [bytearray(20) for _ in range(2)]
    with pytest.raises(Truncated):
        await client.get_range_into(b"a", 0, [memoryview(b) for b in buffers], if_match=None)
    store.add(Rule("get_range_into", TruncateBody(15)))
    await client.get_range_into(b"a", 0, [memoryview(b) for b in buffers], if_match=None)
    assert b"".join(buffers) == BODY[:40]


@trio_test
async def test_an_object_replaced_in_mid_body_is_changed_and_never_mixed(store, mock_clock):
    client = client_of(store)
    etag = await etag_of(client)
    store.add(Rule("get_range_into", TruncateBody(20)))
    told: list[int] = []

    def replace(i: int) -> None:
        told.append(i)
        store.put(b"a", [bytes(100)], deadline=0)

    buffers = [bytearray(20) for _ in range(2)]
    with pytest.raises(Changed):
        await client.get_range_into(
            b"a", 0, [memoryview(b) for b in buffers], if_match=etag, on_filled=replace
        )
    assert told == [0]
    assert buffers[0] == BODY[:20]


@trio_test
async def test_an_expired_token_is_refreshed_once_for_all_who_met_it(store, mock_clock):
    store.add(Rule(None, ExpireToken(), times=None))
    refreshes: list[float] = []

    def refresh() -> bool:
        refreshes.append(trio.current_time())
        return store.refresh()

    client = client_of(store, refresh=refresh)
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(client.head, b"a")
    assert len(refreshes) == 1
    assert store.count("head") == 20


@trio_test
async def test_a_refresh_that_changes_nothing_is_not_made_for_each_who_waited_for_it(
    store, mock_clock, expect_log
):
    expect_log("Expired")
    store.add(Rule("head", Raise(Expired("old", code="SecurityTokenExpired")), times=None))
    refreshes: list[float] = []

    async def gate(op: str, _key: bytes) -> None:
        await trio.sleep(10 if op == "refresh" else 0)

    def refresh() -> bool:
        refreshes.append(trio.current_time())
        return False

    client = client_of(store, refresh=refresh, runner=InlineRunner(gate))

    async def refused() -> None:
        with pytest.raises(Expired):
            await client.head(b"a")

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(refused)
        await trio.sleep(5)
        for _ in range(50):  # the source may have new keys since it was looked at for the others
            nursery.start_soon(refused)
    assert [round(moment - begun) for moment in refreshes] == [10, 20]


@trio_test
async def test_a_token_that_stays_expired_is_an_error_after_one_refresh(
    store, mock_clock, expect_log
):
    expect_log("head 'a' failed after 2 attempt.*Expired")
    store.add(Rule(None, Raise(Expired("old", code="SecurityTokenExpired")), times=None))
    with pytest.raises(Expired):
        await client_of(store, refresh=lambda: True).head(b"a")
    assert store.count("head") == 2


@trio_test
async def test_permanent_keys_that_the_store_does_not_know_are_read_again_once(
    store, mock_clock, expect_log
):
    unknown = Denied("who?", status=403, code="InvalidAccessKeyId")
    store.add(Rule("head", Raise(unknown)))
    refreshes: list[float] = []

    def refresh() -> bool:
        refreshes.append(trio.current_time())
        return True

    client = client_of(store, refresh=refresh)
    assert (await client.head(b"a")).size == 100
    assert (len(refreshes), store.count("head")) == (1, 2)
    expect_log(r"list_page '' failed after 2 attempt\(s\): Denied")
    store.add(Rule("list_page", Raise(unknown), times=None))
    with pytest.raises(Denied):
        await client.list_page(b"")
    assert (len(refreshes), store.count("list_page")) == (2, 2)


@trio_test
async def test_a_plain_refusal_has_no_keys_read_again(store, mock_clock, expect_log):
    expect_log("head 'a' failed after 1 attempt.*Denied")
    store.add(Rule("head", Raise(Denied("no", status=403, code="AccessDenied"))))
    with pytest.raises(Denied):
        await client_of(store, refresh=lambda: pytest.fail("refreshed")).head(b"a")


@trio_test
async def test_keys_that_never_change_are_not_tried_again(store, mock_clock, expect_log):
    expect_log("head 'a' failed after 1 attempt.*Expired")
    store.add(Rule(None, Raise(Expired("old", code="SecurityTokenExpired")), times=None))
    with pytest.raises(Expired):
        await client_of(store).head(b"a")


async def _complete(client: StoreClient) -> None:
    upload = await client.create_upload(b"new")
    part = await client.upload_part(b"new", upload, 1, [b"x"])
    await client.complete_upload(b"new", upload, [UploadPart(1, part.etag)])


ONCE_ONLY = {
    "put": lambda client: client.put(b"new", [b"x"], PutOptions(forbid_overwrite=True)),
    "append": lambda client: client.append(b"new", 0, [b"x"]),
    "complete_upload": _complete,
    "copy": lambda client: client.copy(b"a", b"new", options=PutOptions(forbid_overwrite=True)),
}


@pytest.mark.parametrize("op", ONCE_ONLY)
@trio_test
async def test_a_mutation_that_must_not_happen_twice_is_not_repeated_when_its_reply_is_lost(
    store, mock_clock, expect_log, op
):
    expect_log(f"{op} 'new' failed after 1 attempt")
    store.add(Rule(op, LoseReply(DOWN)))
    with pytest.raises(Unavailable):
        await ONCE_ONLY[op](client_of(store))
    assert store.count(op) == 1
    assert store.head(b"new", deadline=0)


@pytest.mark.parametrize("op", ONCE_ONLY)
@trio_test
async def test_it_is_repeated_when_the_store_surely_refused_it(store, mock_clock, op):
    store.add(Rule(op, Raise(Throttled("slow")), times=2))
    await ONCE_ONLY[op](client_of(store))
    assert store.count(op) == 3


IDEMPOTENT = {
    "put": lambda client: client.put(b"new", [b"x"]),
    "copy": lambda client: client.copy(b"a", b"new"),
    "delete": lambda client: client.delete(b"a"),
    "delete_many": lambda client: client.delete_many([b"a", b"b"]),
    "put_symlink": lambda client: client.put_symlink(b"new", b"a"),
    "create_upload": lambda client: client.create_upload(b"new"),
    "abort_upload": lambda client: client.abort_upload(b"new", "gone"),
    "probe": lambda client: client.probe(),
    "list_page": lambda client: client.list_page(b""),
    "list_uploads": lambda client: client.list_uploads(b""),
}


@pytest.mark.parametrize("op", IDEMPOTENT)
@trio_test
async def test_what_may_happen_twice_is_repeated_when_its_reply_is_lost(store, mock_clock, op):
    store.add(Rule(op, LoseReply(DOWN)))
    await IDEMPOTENT[op](client_of(store))
    assert store.count(op) == 2


@trio_test
async def test_a_part_is_repeated_when_its_reply_is_lost(store, mock_clock):
    client = client_of(store)
    upload = await client.create_upload(b"new")
    store.add(Rule("upload_part", LoseReply(DOWN)), Rule("copy_part", LoseReply(DOWN)))
    await client.upload_part(b"new", upload, 1, [b"x", b"y"])
    await client.copy_part(b"new", upload, 2, b"a", 0, 5, if_match=await etag_of(client))
    assert (store.count("upload_part"), store.count("copy_part")) == (2, 2)
    assert client.stats.bytes_written == 2


@trio_test
async def test_a_copy_onto_itself_with_if_match_is_not_repeated(store, mock_clock, expect_log):
    expect_log("copy 'a' failed after 1 attempt")
    client = client_of(store)
    store.add(Rule("copy", LoseReply(DOWN)))
    with pytest.raises(Unavailable):
        await client.copy(b"a", b"a", if_match=await etag_of(client), options=PutOptions())


@trio_test
async def test_a_listing_that_leads_to_itself_ends_in_an_error(store, mock_clock, expect_log):
    expect_log("list_page '' failed after 5 attempt.*does not move on")
    store.put(b"b", [b""], deadline=0)
    client = client_of(store)
    first = await client.list_page(b"", max_keys=1)
    store.list_page = lambda *args, **kwargs: first
    with pytest.raises(Unavailable):
        await client.list_page(b"", token=first.next_token)


@trio_test
async def test_symlinks_are_read_as_they_were_made(store, mock_clock):
    client = client_of(store)
    await client.put_symlink(b"link", b"a")
    assert await client.get_symlink(b"link") == b"a"
    assert client.capabilities is store.capabilities


@trio_test
async def test_a_failure_is_logged_once_a_minute_for_each_operation_and_code(
    store, mock_clock, expect_log, caplog
):
    expect_log("failed after")
    denied = Denied("no", status=403, code="AccessDenied")
    store.add(Rule(None, Raise(denied), times=None))
    client = client_of(store)

    async def fail(call) -> None:
        with pytest.raises(Denied):
            await call

    for _ in range(5):
        await fail(client.head(b"a"))
    await fail(client.delete(b"a"))
    assert len(caplog.messages) == 2
    await trio.sleep(60)
    await fail(client.head(b"a"))
    assert len(caplog.messages) == 3
    assert caplog.messages[-1].endswith("(4 more of this kind since the last such line)")


@trio_test
async def test_a_slow_request_is_reported_once_while_it_is_waited_for(
    store, mock_clock, expect_log, caplog
):
    expect_log("waiting for the store")
    release = trio.Event()

    async def gate(op: str, key: bytes) -> None:
        await release.wait()

    client = client_of(store, runner=InlineRunner(gate))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.watch)
        nursery.start_soon(client.head, b"a")
        await wait_all_tasks_blocked()  # or trio might start the second request first
        nursery.start_soon(client.list_page, b"dir/")
        await trio.sleep(9.5)
        assert caplog.messages == []
        await trio.sleep(30)
        [line] = caplog.messages
        assert "2 request(s) for over 10 s, the longest 10." in line
        assert line.endswith("head 'a'")
        release.set()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert len(caplog.messages) == 1


@trio_test
async def test_a_request_that_keeps_failing_is_reported_as_slow_with_its_reason(
    store, mock_clock, expect_log
):
    expect_log(r"waiting for the store.*head 'a', attempt \d+ after Throttled: slow")
    store.add(Rule("head", Raise(Throttled("slow", code="TotalQpsLimitExceeded")), times=25))
    await client_of(store, request_timeout=600.0).head(b"a")


@trio_test
async def test_a_request_held_at_the_gate_is_cancelled_without_reaching_the_store(
    store, mock_clock
):
    client = client_of(store, runner=InlineRunner(lambda op, key: trio.sleep_forever()))
    with trio.move_on_after(1) as scope:
        await client.put(b"new", [b"x"])
    assert scope.cancelled_caught
    assert store.calls == []


# -- in threads, on the real clock ------------------------------------------------------------


def threaded(*rules: Rule) -> FaultyStore:
    inner = MemoryStore()
    inner.put(b"a", [BODY], deadline=0)
    return FaultyStore(inner, rules)


@trio_test
async def test_bulk_bytes_move_in_transfer_threads_and_the_rest_in_others():
    store = threaded()
    seen: dict[str, str] = {}
    inner_head = store.head

    def head(*args, **kwargs):
        seen["head"] = threading.current_thread().name
        return inner_head(*args, **kwargs)

    store.head = head
    pool = TransferPool(2, name="bulk")
    client = StoreClient(store, request_timeout=30, transfer=pool)
    etag = await etag_of(client)
    for prefetch in (False, True):
        await client.get_range_into(
            b"a",
            0,
            [memoryview(bytearray(10))],
            if_match=etag,
            on_filled=lambda i: seen.update(get=threading.current_thread().name),
            prefetch=prefetch,
        )
        assert seen["get"].startswith("bulk-")
    assert not seen["head"].startswith("bulk-")
    assert threading.main_thread().name not in seen.values()
    await pool.aclose()


@trio_test
async def test_a_request_for_which_no_thread_can_be_started_is_asked_again(monkeypatch):
    really = trio.to_thread.run_sync
    refusals = iter([True, False])

    async def reluctant(*args, **kwargs):
        if next(refusals):
            raise RuntimeError("can't start new thread")
        return await really(*args, **kwargs)

    monkeypatch.setattr(trio.to_thread, "run_sync", reluctant)
    client = StoreClient(threaded(), request_timeout=30)
    assert (await client.head(b"a")).size == 100
    assert client.stats.retries == 1


@trio_test
async def test_a_cancelled_look_is_abandoned_at_once():
    hold = Hold(threading.Event())
    client = StoreClient(threaded(Rule("head", hold)), request_timeout=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.head, b"a")
        assert await trio.to_thread.run_sync(hold.entered.wait, 10)
        nursery.cancel_scope.cancel()
    hold.release.set()


@pytest.mark.parametrize("pooled", [True, False])
@trio_test
async def test_a_cancelled_read_returns_only_when_its_buffers_are_left_alone(pooled):
    hold = Hold(threading.Event())
    pool = TransferPool(1)
    client = StoreClient(
        threaded(Rule("get_range_into", hold)),
        request_timeout=30,
        transfer=pool if pooled else None,
    )
    body = bytearray(100)
    scope = trio.CancelScope()
    over = trio.Event()

    async def read() -> None:
        with scope:
            await client.get_range_into(b"a", 0, [memoryview(body)], if_match=None)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        assert await trio.to_thread.run_sync(hold.entered.wait, 10)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert not over.is_set()
        hold.release.set()
        await over.wait()
    assert body == BODY
    await pool.aclose()


@trio_test
async def test_the_clock_of_a_request_starts_when_a_thread_takes_it():
    now = [1_000.0]
    hold = Hold(threading.Event())
    store = FaultyStore(threaded(), [Rule("head", hold)], monotonic=lambda: 1_000.0)
    deadlines: list[float] = []
    inner_probe = store.probe

    def probe(prefix: bytes, *, deadline: float) -> None:
        deadlines.append(deadline)
        inner_probe(prefix, deadline=deadline)

    store.probe = probe
    client = StoreClient(store, request_timeout=30, control_threads=1, monotonic=lambda: now[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.head, b"a")
        await trio.to_thread.run_sync(hold.entered.wait, 10)
        nursery.start_soon(client.probe)
        await wait_all_tasks_blocked()
        now[0] += 500
        hold.release.set()
    assert deadlines == [1_530.0]


@trio_test
async def test_a_corrupted_body_reaches_the_caller_as_it_came():
    client = StoreClient(threaded(Rule("get_range_into", CorruptByte(3))), request_timeout=30)
    body = bytearray(10)
    await client.get_range_into(b"a", 0, [memoryview(body)], if_match=None)
    assert body == b"\x00\x01\x02\x02\x04\x05\x06\x07\x08\x09"
