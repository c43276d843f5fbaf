"""What only the store in memory promises; tests/store/ holds what every store does."""

from __future__ import annotations

import random
import threading

import pytest

from ossfs.store.api import Capabilities, PutOptions, UploadPart
from ossfs.store.errors import Archived, Changed, Invalid, TooLarge
from ossfs.store.memory import MemoryStore

NOW = float("inf")


def test_limits_scale_down_with_the_capabilities():
    store = MemoryStore(Capabilities(minimum_part=4, maximum_parts=2, maximum_put=8))
    with pytest.raises(TooLarge):
        store.put(b"a", [b"x" * 9], deadline=NOW)
    upload = store.create_upload(b"a", deadline=NOW)
    with pytest.raises(Invalid):
        store.upload_part(b"a", upload, 3, [b"x"], deadline=NOW)
    parts = [
        UploadPart(n, store.upload_part(b"a", upload, n, [b"x" * 3], deadline=NOW).etag)
        for n in (1, 2)
    ]
    with pytest.raises(Invalid) as caught:
        store.complete_upload(b"a", upload, parts, deadline=NOW)
    assert caught.value.code == "EntityTooSmall"
    store.append(b"log", 0, [b"x" * 8], deadline=NOW)
    with pytest.raises(TooLarge):
        store.append(b"log", 8, [b"x"], deadline=NOW)


def test_times_are_whole_seconds_of_the_wall_clock_given():
    store = MemoryStore(wall=lambda: 1_700_000_000.9)
    store.put(b"a", [b""], deadline=NOW)
    assert store.head(b"a", deadline=NOW).mtime == 1_700_000_000


def test_an_archived_object_says_that_it_must_be_restored():
    store = MemoryStore()
    reply = store.put(b"a", [b"cold"], PutOptions(storage_class="Archive"), deadline=NOW)
    assert store.head(b"a", full=True, deadline=NOW).storage_class == "Archive"
    with pytest.raises(Archived, match="restored"):
        store.get_range_into(b"a", 0, [memoryview(bytearray(4))], if_match=reply.etag, deadline=NOW)


def test_a_store_without_append_symlink_or_crc_says_so():
    store = MemoryStore(
        Capabilities(append=False, symlink=False, crc64=False, forbid_overwrite=False)
    )
    assert store.put(b"a", [b"x"], deadline=NOW).crc64 is None
    assert store.head(b"a", full=True, deadline=NOW).crc64 is None
    for refused in (
        lambda: store.append(b"log", 0, [b"x"], deadline=NOW),
        lambda: store.put_symlink(b"link", b"a", deadline=NOW),
        lambda: store.put(b"b", [b"x"], PutOptions(forbid_overwrite=True), deadline=NOW),
    ):
        with pytest.raises(Invalid):
            refused()


def test_keys_stay_in_order_whether_they_come_one_by_one_or_in_bulk():
    rng = random.Random(5)
    store = MemoryStore()
    model: set[bytes] = set()
    for burst in (1, 3, 200, 1, 500):
        for _ in range(burst):
            key = b"%06d" % rng.randrange(5_000)
            store.put(key, [b""], deadline=NOW)
            model.add(key)
        for key in rng.sample(sorted(model), burst // 3):
            store.delete(key, deadline=NOW)
            model.discard(key)
        page = store.list_page(b"", delimiter=b"", max_keys=1_000, deadline=NOW)
        assert [entry.key for entry in page.entries] == sorted(model)


def test_a_page_steps_over_a_directory_however_large():
    store = MemoryStore()
    for n in range(20_000):
        store.put(b"big/%05d" % n, [b""], deadline=NOW)
    store.put(b"z", [b""], deadline=NOW)
    page = store.list_page(b"", max_keys=2, deadline=NOW)
    assert page.prefixes == [b"big/"]
    assert [entry.key for entry in page.entries] == [b"z"]


def test_a_reader_sees_one_version_whole_while_writers_replace_it():
    store = MemoryStore()
    store.put(b"a", [b"\x00" * 4_096], deadline=NOW)
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n = (n + 1) % 256
            store.put(b"a", [bytes((n,)) * 4_096], deadline=NOW)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        served = 0
        while served < 200:
            buffer = bytearray(4_096)
            etag = store.head(b"a", deadline=NOW).etag
            try:
                store.get_range_into(b"a", 0, [memoryview(buffer)], if_match=etag, deadline=NOW)
            except Changed:
                etag = None
                store.get_range_into(b"a", 0, [memoryview(buffer)], if_match=etag, deadline=NOW)
            assert len(set(buffer)) == 1
            served += 1
    finally:
        stop.set()
        writer.join()
