"""Every fault of the plan, fired when and as often as its rule says."""

from __future__ import annotations

import threading

import pytest

from ossfs.store.errors import DeadlineExceeded, Expired, Truncated, Unavailable
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from ossfs.store.plan import (
    Call,
    CorruptByte,
    CorruptCrc,
    ExpireToken,
    Hang,
    Hold,
    LoseReply,
    Raise,
    Rule,
    TruncateBody,
)

FAR = float("inf")
LOST = Unavailable("lost", status=500, code="InternalError")


def faulty(*rules: Rule, **parameters) -> FaultyStore:
    inner = MemoryStore()
    inner.put(b"a", [b"0123456789"], deadline=FAR)
    return FaultyStore(inner, rules, **parameters)


def get(store: FaultyStore, *sizes: int, key: bytes = b"a", offset: int = 0):
    """Read into buffers of `sizes`; return them and which were reported full."""
    buffers = [bytearray(b"." * size) for size in sizes]
    filled: list[tuple[int, bytes]] = []
    error = None
    try:
        store.get_range_into(
            key,
            offset,
            [memoryview(buffer) for buffer in buffers],
            if_match=None,
            on_filled=lambda i: filled.append((i, bytes(buffers[i]))),
            deadline=FAR,
        )
    except Truncated as truncated:
        error = truncated
    return b"".join(buffers), filled, error


def test_without_a_plan_nothing_happens_but_the_log():
    store = faulty()
    store.put(b"b", [b"xy", b"z"], deadline=FAR)
    assert get(store, 4, 2, offset=3)[0] == b"345678"
    store.list_page(b"", max_keys=7, deadline=FAR)
    store.delete_many([b"b", b"c"], deadline=FAR)
    assert store.calls == [
        Call("put", b"b", 0, 3),
        Call("get_range_into", b"a", 3, 6),
        Call("list_page", b"", 0, 7),
        Call("delete_many", b"b", 0, 2),
    ]
    assert (store.count("put"), store.count("put", b"a")) == (1, 0)


def test_a_rule_fires_at_the_nth_matching_call_as_often_as_it_says():
    rule = Rule("head", Raise(LOST), key=b"a", nth=2, times=2)
    store = faulty(rule)
    outcomes = []
    for _ in range(5):
        store.probe(b"", deadline=FAR)
        try:
            store.head(b"a", deadline=FAR)
            outcomes.append("ok")
        except Unavailable:
            outcomes.append("lost")
    assert outcomes == ["ok", "lost", "lost", "ok", "ok"]
    assert store.fired(rule) == 2


def test_a_predicate_chooses_keys_and_no_operation_means_all():
    rule = Rule(None, Raise(LOST), key=lambda key: key.startswith(b"x"), times=None)
    store = faulty(rule)
    store.head(b"a", deadline=FAR)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            store.put(b"x1", [b""], deadline=FAR)
        assert (caught.value.key, caught.value.code) == (b"x1", "InternalError")
        assert caught.value is not LOST
    store.heal()
    store.put(b"x1", [b""], deadline=FAR)
    assert store.fired(rule) == 3


def test_rules_can_be_added_while_the_store_is_in_use():
    store = faulty()
    store.head(b"a", deadline=FAR)
    store.add(Rule("head", Raise(LOST)))
    with pytest.raises(Unavailable):
        store.head(b"a", deadline=FAR)


def test_a_raised_error_leaves_the_bucket_alone_and_a_lost_reply_does_not():
    store = faulty(Rule("put", Raise(LOST), key=b"b"), Rule("put", LoseReply(LOST), key=b"c"))
    for key in (b"b", b"c"):
        with pytest.raises(Unavailable):
            store.put(key, [b"x"], deadline=FAR)
    page = store.list_page(b"", deadline=FAR)
    assert [entry.key for entry in page.entries] == [b"a", b"c"]


@pytest.mark.parametrize(
    "mutate",
    [
        lambda store: store.append(b"log", 0, [b"x"], deadline=FAR),
        lambda store: store.copy(b"a", b"log", deadline=FAR),
        lambda store: store.put_symlink(b"log", b"a", deadline=FAR),
    ],
)
def test_every_mutation_can_lose_its_reply(mutate):
    store = faulty(Rule(None, LoseReply(LOST)))
    with pytest.raises(Unavailable):
        mutate(store)
    assert store.head(b"log", deadline=FAR)


def test_a_hanging_call_ends_at_its_deadline_by_the_clock_given():
    slept: list[float] = []
    store = faulty(Rule("head", Hang()), monotonic=lambda: 100.0, sleep=slept.append)
    with pytest.raises(DeadlineExceeded):
        store.head(b"a", deadline=107.5)
    assert slept == [7.5]


def test_a_held_call_goes_on_when_the_test_says_so():
    hold = Hold(threading.Event())
    store = faulty(Rule("head", hold))
    sizes: list[int] = []
    thread = threading.Thread(target=lambda: sizes.append(store.head(b"a", deadline=1e9).size))
    thread.start()
    assert hold.entered.wait(10)
    assert sizes == []
    hold.release.set()
    thread.join(10)
    assert sizes == [10]


def test_a_call_held_past_its_deadline_fails():
    store = faulty(Rule("head", Hold(threading.Event())), monotonic=lambda: 5.0)
    with pytest.raises(DeadlineExceeded):
        store.head(b"a", deadline=4.0)


@pytest.mark.parametrize(
    ("after", "body", "full"),
    [
        (0, b"..........", []),
        (3, b"012.......", []),
        (4, b"0123......", [(0, b"0123")]),
        (9, b"012345678.", [(0, b"0123"), (1, b"4567")]),
    ],
)
def test_a_truncated_body_delivers_its_beginning_and_announces_only_full_buffers(after, body, full):
    got, filled, error = get(faulty(Rule("get_range_into", TruncateBody(after))), 4, 4, 2)
    assert error is not None
    assert (got, filled) == (body, full)


def test_a_body_that_ends_before_the_cut_is_whole():
    got, filled, error = get(faulty(Rule("get_range_into", TruncateBody(10))), 4, 6)
    assert (got, len(filled), error) == (b"0123456789", 2, None)


def test_a_corrupted_byte_is_wrong_already_when_its_buffer_is_announced():
    _, filled, _ = get(faulty(Rule("get_range_into", CorruptByte(5))), 4, 4, 2)
    assert filled == [(0, b"0123"), (1, b"4467"), (2, b"89")]


def test_a_corrupted_crc_differs_and_the_object_does_not():
    store = faulty(Rule("put", CorruptCrc()), Rule("head", CorruptCrc()))
    wrong = store.put(b"b", [b"x"], deadline=FAR).crc64
    again = store.head(b"b", deadline=FAR).crc64
    right = store.head(b"b", deadline=FAR).crc64
    assert wrong == again == right ^ 1


def test_a_token_stays_expired_until_it_is_refreshed():
    store = faulty(Rule(None, ExpireToken(), times=None))
    for _ in range(2):
        with pytest.raises(Expired):
            store.head(b"a", deadline=FAR)
    assert store.refresh()
    assert store.head(b"a", deadline=FAR).size == 10
