"""Conformance: multipart uploads, strict where OSS is strict."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ossfs.store.api import ObjectType, PutOptions, UploadPart
from ossfs.store.errors import Changed, Exists, Invalid, NotFound, NoUpload, StoreError


def part_of(store, letter: bytes) -> bytes:
    """Return the smallest body a part in the middle may have."""
    return letter * store.capabilities.minimum_part


def uploaded(store, key: bytes, upload: str, *bodies: bytes) -> list[UploadPart]:
    return [
        UploadPart(n, store.upload_part(key, upload, n, [body]).etag)
        for n, body in enumerate(bodies, 1)
    ]


def test_parts_become_one_object_in_order_of_their_numbers(store, under):
    key = under + b"a"
    a, b = part_of(store, b"a"), part_of(store, b"b")
    upload = store.create_upload(key)
    reply = store.complete_upload(key, upload, uploaded(store, key, upload, a, b, b"tail"))
    info = store.head(key, full=True)
    assert store.read(key, 0, info.size) == a + b + b"tail"
    assert (info.type, info.etag) == (ObjectType.MULTIPART, reply.etag)
    assert reply.crc64 == info.crc64 == store.crc(a + b + b"tail")


def test_its_etag_counts_the_parts_and_is_no_digest_of_the_bytes(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    etag = store.complete_upload(key, upload, uploaded(store, key, upload, b"body")).etag
    assert etag.endswith("-1")
    assert etag != store.put(under + b"b", [b"body"]).etag
    [first, _] = store.list_page(under).entries
    assert first.etag == etag


def test_parts_may_come_in_any_order_at_once_and_from_pieces(store, under):
    key = under + b"a"
    bodies = [part_of(store, b"%d" % n) for n in range(6)]
    upload = store.create_upload(key)

    def one(n: int) -> UploadPart:
        half = len(bodies[n]) // 2
        pieces = [memoryview(bodies[n])[:half], bytearray(bodies[n][half:])]
        reply = store.upload_part(key, upload, n + 1, pieces)
        assert reply.crc64 == store.crc(bodies[n])
        return UploadPart(n + 1, reply.etag)

    with ThreadPoolExecutor(3) as pool:
        parts = sorted(pool.map(one, (5, 3, 1, 0, 2, 4)))
    store.complete_upload(key, upload, parts)
    whole = b"".join(bodies)
    assert store.read(key, 0, len(whole)) == whole


def test_nothing_is_there_until_the_upload_is_complete(store, under):
    key = under + b"a"
    store.put(key, [b"old"])
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, b"new!")
    assert store.read(key, 0, 3) == b"old"
    store.complete_upload(key, upload, parts)
    assert store.read(key, 0, 4) == b"new!"


def test_a_part_sent_again_replaces_the_earlier_one(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    [old] = uploaded(store, key, upload, b"old")
    [new] = uploaded(store, key, upload, b"new")
    with pytest.raises(Invalid):
        store.complete_upload(key, upload, [old])
    store.complete_upload(key, upload, [new])
    assert store.read(key, 0, 3) == b"new"


def test_numbers_may_have_gaps_and_unnamed_parts_are_left_out(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, part_of(store, b"a"), b"left out", b"end")
    store.complete_upload(key, upload, [parts[0], parts[2]])
    assert store.head(key).size == store.capabilities.minimum_part + 3


def test_a_small_part_may_only_be_the_last(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, part_of(store, b"a")[1:], b"tail")
    with pytest.raises(Invalid) as caught:
        store.complete_upload(key, upload, parts)
    assert caught.value.code == "EntityTooSmall"


@pytest.mark.parametrize("order", [[1, 0], [0, 0]])
def test_parts_out_of_order_are_invalid(store, under, order):
    key = under + b"a"
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, part_of(store, b"a"), part_of(store, b"b"))
    with pytest.raises(Invalid) as caught:
        store.complete_upload(key, upload, [parts[i] for i in order])
    assert caught.value.code == "InvalidPartOrder"


def test_a_part_that_was_never_sent_is_invalid(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    [part] = uploaded(store, key, upload, part_of(store, b"a"))
    for wrong in ([part, UploadPart(2, part.etag)], [UploadPart(1, "0" * 32)]):
        with pytest.raises(Invalid) as caught:
            store.complete_upload(key, upload, wrong)
        assert caught.value.code == "InvalidPart"


def test_part_numbers_go_from_one_to_the_maximum(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    last = store.capabilities.maximum_parts
    for number in (0, last + 1):
        with pytest.raises(Invalid):
            store.upload_part(key, upload, number, [b"x"])
    part = store.upload_part(key, upload, last, [b"x"])
    store.complete_upload(key, upload, [UploadPart(last, part.etag)])


def test_a_refused_completion_leaves_the_upload_for_another_try(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, b"body")
    with pytest.raises(Invalid):
        store.complete_upload(key, upload, [UploadPart(7, parts[0].etag)])
    store.complete_upload(key, upload, parts)
    assert store.read(key, 0, 4) == b"body"


def test_an_upload_that_is_over_is_no_upload(store, under):
    key = under + b"a"
    finished = store.create_upload(key)
    parts = uploaded(store, key, finished, b"x")
    store.complete_upload(key, finished, parts)
    aborted = store.create_upload(key)
    store.abort_upload(key, aborted)
    for upload in (finished, aborted):
        with pytest.raises(NoUpload):
            store.complete_upload(key, upload, parts)
        with pytest.raises(NoUpload):
            store.upload_part(key, upload, 1, [b"x"])


def test_aborting_is_no_error_however_often(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    uploaded(store, key, upload, b"x")
    for _ in range(3):
        store.abort_upload(key, upload)
    with pytest.raises(NotFound):
        store.head(key)


def test_the_object_carries_what_the_upload_was_begun_with(store, under):
    key = under + b"a"
    options = PutOptions(content_type="text/x-claim", metadata={"mode": "420"})
    upload = store.create_upload(key, options)
    store.complete_upload(key, upload, uploaded(store, key, upload, b"x"))
    info = store.head(key, full=True)
    assert (info.content_type, dict(info.metadata)) == ("text/x-claim", {"mode": "420"})


def test_a_completion_that_forbids_overwriting_meets_an_object(store, under):
    key = under + b"a"
    upload = store.create_upload(key)
    parts = uploaded(store, key, upload, b"new")
    store.put(key, [b"came between"])
    with pytest.raises(Exists):
        store.complete_upload(key, upload, parts, forbid_overwrite=True)
    assert store.read(key, 0, 4) == b"came"


def test_an_upload_that_forbids_overwriting_is_not_begun_over_an_object(store, under):
    store.put(under + b"a", [b"x"])
    with pytest.raises(Exists):
        store.create_upload(under + b"a", PutOptions(forbid_overwrite=True))


def test_two_uploads_of_one_key_are_apart_and_the_last_completed_wins(store, under):
    key = under + b"a"
    first, second = store.create_upload(key), store.create_upload(key)
    assert first != second
    ones = uploaded(store, key, first, b"first")
    twos = uploaded(store, key, second, b"second")
    store.complete_upload(key, second, twos)
    store.complete_upload(key, first, ones)
    assert store.read(key, 0, 5) == b"first"


def test_uploads_in_progress_are_listed_until_they_end(store, under):
    one, two = under + b"dir/one", under + b"two"
    ids = {key: store.create_upload(key) for key in (two, one)}
    listed = store.list_uploads(under)
    assert [(pending.key, pending.upload_id) for pending in listed] == [
        (one, ids[one]),
        (two, ids[two]),
    ]
    assert [pending.key for pending in store.list_uploads(under + b"dir/")] == [one]
    store.abort_upload(one, ids[one])
    store.complete_upload(two, ids[two], uploaded(store, two, ids[two], b"x"))
    assert list(store.list_uploads(under)) == []


# -- parts copied from objects ----------------------------------------------------------------


def test_a_range_of_an_object_becomes_a_part(store, under):
    source, key = under + b"source", under + b"a"
    body = part_of(store, b"ab")
    etag = store.put(source, [body]).etag
    half = store.capabilities.minimum_part
    upload = store.create_upload(key)
    copied = store.copy_part(key, upload, 1, source, 1, half, if_match=etag)
    tail = store.upload_part(key, upload, 2, [b"tail"])
    store.complete_upload(key, upload, [UploadPart(1, copied.etag), UploadPart(2, tail.etag)])
    assert store.read(key, 0, half + 4) == body[1 : half + 1] + b"tail"


def test_a_part_is_copied_only_from_the_version_named(store, under):
    source, key = under + b"source", under + b"a"
    old = store.put(source, [b"old"]).etag
    store.put(source, [b"new"])
    upload = store.create_upload(key)
    with pytest.raises(Changed):
        store.copy_part(key, upload, 1, source, 0, 3, if_match=old)
    with pytest.raises(NotFound):
        store.copy_part(key, upload, 1, under + b"none", 0, 3, if_match=old)


def test_a_part_cannot_be_copied_from_beyond_its_source(store, under):
    source, key = under + b"source", under + b"a"
    etag = store.put(source, [b"0123456789"]).etag
    upload = store.create_upload(key)
    for offset, size in ((10, 1), (5, 6), (0, 11)):
        with pytest.raises(StoreError):
            store.copy_part(key, upload, 1, source, offset, size, if_match=etag)
    part = store.copy_part(key, upload, 1, source, 9, 1, if_match=etag)
    store.complete_upload(key, upload, [UploadPart(1, part.etag)])
    assert store.read(key, 0, 1) == b"9"


def test_a_part_copied_into_no_upload_is_no_upload(store, under):
    etag = store.put(under + b"source", [b"x"]).etag
    upload = store.create_upload(under + b"a")
    store.abort_upload(under + b"a", upload)
    with pytest.raises(NoUpload):
        store.copy_part(under + b"a", upload, 1, under + b"source", 0, 1, if_match=etag)
