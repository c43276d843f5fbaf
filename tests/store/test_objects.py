"""Conformance: whole objects, what is known of them, and reading their ranges."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ossfs.store.api import ObjectType, PutOptions, UploadPart
from ossfs.store.errors import Changed, Exists, Invalid, NotFound, StoreError, Truncated

BODY = bytes(i * 7 % 251 for i in range(10_000))


def test_an_object_is_described_as_it_was_put(store, under):
    before = int(time.time())
    reply = store.put(under + b"a", [BODY])
    info = store.head(under + b"a")
    assert (info.size, info.etag) == (len(BODY), reply.etag)
    assert before <= info.mtime <= time.time()
    assert isinstance(info.mtime, int)


def test_a_full_head_knows_kind_class_and_metadata(store, under):
    options = PutOptions(content_type="text/x-claim", metadata={"mode": "33188", "uid": "1000"})
    store.put(under + b"a", [b"x"], options)
    info = store.head(under + b"a", full=True)
    assert info.type is ObjectType.NORMAL
    assert info.content_type == "text/x-claim"
    assert dict(info.metadata) == {"mode": "33188", "uid": "1000"}
    assert dict(store.head(under + b"a").metadata) == {}


def test_an_object_is_of_the_class_that_is_named(store, under):
    options = PutOptions(storage_class=store.cold)
    store.put(under + b"put", [b"x"], options)
    upload = store.create_upload(under + b"upload", options)
    part = store.upload_part(under + b"upload", upload, 1, [b"x"])
    store.complete_upload(under + b"upload", upload, [UploadPart(1, part.etag)])
    assert [entry.plain for entry in store.list_page(under).entries] == [False, False]
    for name in (b"put", b"upload"):
        assert store.head(under + name, full=True).storage_class == store.cold


def test_an_object_without_options_has_no_metadata_and_the_standard_class(store, under):
    store.put(under + b"a", [b"x"])
    info = store.head(under + b"a", full=True)
    assert (dict(info.metadata), info.storage_class) == ({}, "Standard")


def test_pieces_of_any_buffer_type_become_one_object(store, under):
    store.put(under + b"a", [b"by", bytearray(b"te"), memoryview(b"__s__")[2:3], b"", b"!"])
    assert store.read(under + b"a", 0, 6) == b"bytes!"


def test_an_empty_object_is_an_object(store, under):
    reply = store.put(under + b"a", [])
    assert store.head(under + b"a").size == 0
    assert store.head(under + b"a").etag == reply.etag
    assert store.names(under) == [b"a"]


@pytest.mark.parametrize("body", [b"", b"x", BODY])
def test_the_store_computes_crc64_over_what_it_got(store, under, body):
    assert store.put(under + b"a", [body]).crc64 == store.crc(body)
    assert store.head(under + b"a", full=True).crc64 == store.crc(body)


def test_a_later_put_replaces_all_of_an_object(store, under):
    first = store.put(under + b"a", [BODY], PutOptions(metadata={"old": "yes"}))
    second = store.put(under + b"a", [b"short"])
    info = store.head(under + b"a", full=True)
    assert (info.size, info.etag, dict(info.metadata)) == (5, second.etag, {})
    assert first.etag != second.etag


def test_same_size_replacement_within_a_second_has_another_etag(store, under):
    etags = {store.put(under + b"a", [b"%03d" % n]).etag for n in range(20)}
    assert len(etags) == 20


def test_forbid_overwrite_protects_an_object_and_only_an_object(store, under):
    careful = PutOptions(forbid_overwrite=True)
    store.put(under + b"a", [b"first"], careful)
    with pytest.raises(Exists):
        store.put(under + b"a", [b"second"], careful)
    assert store.read(under + b"a", 0, 5) == b"first"
    store.delete(under + b"a")
    store.put(under + b"a", [b"third"], careful)


def test_a_missing_object_is_not_found_by_the_stores_own_word(store, under):
    for look in (
        lambda: store.head(under + b"a"),
        lambda: store.head(under + b"a", full=True),
        lambda: store.read(under + b"a", 0, 1),
        lambda: store.get_symlink(under + b"a"),
    ):
        with pytest.raises(NotFound) as caught:
            look()
        assert (caught.value.key, caught.value.status) == (under + b"a", 404)


@pytest.mark.parametrize(
    "key", [b"", b"\xff\xfe", b"x" * 1_024], ids=["empty", "not UTF-8", "long"]
)
def test_a_key_that_no_store_holds_is_absent_to_lookups_and_invalid_to_mutations(store, key):
    for look in (
        lambda: store.head(key),
        lambda: store.head(key, full=True),
        lambda: store.read(key, 0, 1),
        lambda: store.get_symlink(key),
    ):
        with pytest.raises(NotFound):
            look()
    for mutate in (
        lambda: store.put(key, [b"x"]),
        lambda: store.append(key, 0, [b"x"]),
        lambda: store.create_upload(key),
        lambda: store.put_symlink(key, b"target"),
        lambda: store.delete(key),
        lambda: store.delete_many([b"fine", key]),
    ):
        with pytest.raises(Invalid):
            mutate()


def test_a_key_of_1023_bytes_is_held(store, under):
    key = under + b"k" * (1_023 - len(under))
    store.put(key, [b"x"])
    assert store.read(key, 0, 1) == b"x"
    assert store.names(under) == [key.removeprefix(under)]


# -- ranges -----------------------------------------------------------------------------------


@pytest.fixture
def body_key(store, under):
    store.put(under + b"body", [BODY])
    return under + b"body"


@pytest.mark.parametrize(
    ("offset", "size"),
    [(0, 1), (0, 10_000), (9_999, 1), (1, 9_999), (0, 9_999), (4_095, 2), (4_096, 4_096), (37, 5)],
)
def test_a_range_is_exactly_the_bytes_asked_for(store, body_key, offset, size):
    assert store.read(body_key, offset, size) == BODY[offset : offset + size]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(BODY)), min_size=2, max_size=6, unique=True))
def test_buffers_of_any_sizes_are_filled_one_after_another(store, body_key, cuts):
    cuts.sort()
    buffers = [bytearray(b - a) for a, b in pairwise(cuts)]
    filled: list[int] = []
    reply = store.get_range_into(
        body_key,
        cuts[0],
        [memoryview(buffer) for buffer in buffers],
        if_match=None,
        on_filled=filled.append,
    )
    assert b"".join(buffers) == BODY[cuts[0] : cuts[-1]]
    assert filled == list(range(len(buffers)))
    assert reply.total == len(BODY)


def test_a_buffer_is_final_when_it_is_announced_and_by_the_calling_thread(store, body_key):
    buffers = [bytearray(2_500) for _ in range(4)]
    seen: list[tuple[int, bytes, threading.Thread]] = []
    store.get_range_into(
        body_key,
        0,
        [memoryview(buffer) for buffer in buffers],
        if_match=None,
        on_filled=lambda i: seen.append((i, bytes(buffers[i]), threading.current_thread())),
    )
    assert [n for n, _, _ in seen] == [0, 1, 2, 3]
    assert b"".join(piece for _, piece, _ in seen) == BODY
    assert {thread for _, _, thread in seen} == {threading.current_thread()}


def test_a_read_tells_the_version_and_size_it_came_from(store, under):
    put = store.put(under + b"a", [BODY])
    reply = store.get_range_into(under + b"a", 5, [memoryview(bytearray(10))], if_match=put.etag)
    assert reply == (put.etag, len(BODY))


def test_a_replaced_object_is_changed_to_who_holds_the_old_version(store, under):
    old = store.put(under + b"a", [b"old version"])
    store.put(under + b"a", [b"new version"])
    buffer = bytearray(11)
    with pytest.raises(Changed):
        store.get_range_into(under + b"a", 0, [memoryview(buffer)], if_match=old.etag)
    assert buffer == bytes(11)


def test_a_deleted_object_is_not_found_to_who_holds_it(store, under):
    old = store.put(under + b"a", [b"old version"])
    store.delete(under + b"a")
    with pytest.raises(NotFound):
        store.read(under + b"a", 0, 3, if_match=old.etag)


@pytest.mark.parametrize("matched", [True, False])
def test_a_range_over_the_end_is_truncated_and_announces_no_buffer_it_cannot_fill(
    store, under, matched
):
    etag = store.put(under + b"a", [b"0123456789"]).etag
    buffers = [bytearray(6) for _ in range(3)]
    filled: list[int] = []
    with pytest.raises(Truncated):
        store.get_range_into(
            under + b"a",
            2,
            [memoryview(buffer) for buffer in buffers],
            if_match=etag if matched else None,
            on_filled=filled.append,
        )
    assert filled in ([], [0])
    assert not filled or buffers[0] == b"234567"
    assert buffers[2] == bytes(6)


@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("body", [b"", b"0123456789"])
def test_a_range_past_the_end_fails_for_good_and_touches_nothing(store, under, body, matched):
    etag = store.put(under + b"a", [body]).etag
    buffer = bytearray(4)
    with pytest.raises(StoreError) as caught:
        store.get_range_into(
            under + b"a", 10, [memoryview(buffer)], if_match=etag if matched else None
        )
    # With If-Match the object is shorter than its ETag promised; without, the caller asked wrong.
    assert type(caught.value) is (Changed if matched else Invalid)
    assert buffer == bytes(4)


def test_many_threads_read_and_write_at_once(store, under):
    def one(n: int) -> bytes:
        key = under + b"%d" % n
        store.put(key, [BODY[n:]])
        return store.read(key, n, 100) + store.read(body_key, n * 10, 100)

    body_key = under + b"body"
    store.put(body_key, [BODY])
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(one, range(64)))
    assert got == [BODY[2 * n : 2 * n + 100] + BODY[n * 10 : n * 10 + 100] for n in range(64)]


def test_megabytes_come_back_as_they_went(store, under):
    block = bytes(range(256)) * 4_096
    store.put(under + b"big", [block, memoryview(block)[::1], bytearray(block)])
    buffers = [bytearray(len(block)) for _ in range(3)]
    store.get_range_into(
        under + b"big", 0, [memoryview(buffer) for buffer in buffers], if_match=None
    )
    assert all(buffer == block for buffer in buffers)
