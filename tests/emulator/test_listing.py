"""ListObjects, V1 and V2: order, pages, delimiters, encoding, and a model that must agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.emulator.storage import Storage
from tests.emulator.conftest import Served
from tests.emulator.raw import Answer, RawClient

KEYS = ["a", "a/1", "a/2", "b", "b/", "b/x/1", "b/x/2", "c d/é", "z"]


@pytest.fixture(scope="module", autouse=True)
def filled(served: Served) -> None:
    def fill() -> None:
        for key in KEYS:
            served.storage.bucket("test-bucket").put_bytes(key.encode(), key.encode())

    served.run(fill)


def pages(oss: RawClient, version: int, **query: str) -> Iterator[Answer]:
    """Yield every page of a listing."""
    sent = {"list-type": "2", **query} if version == 2 else dict(query)
    while True:
        page = oss.call("GET", query=sent)
        assert page.status == 200, page.body
        yield page
        if page.one("IsTruncated") == "false":
            return
        if version == 2:
            sent["continuation-token"] = page.one("NextContinuationToken")
        else:
            sent["marker"] = page.one("NextMarker")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_of_any_size_make_up_the_listing(oss: RawClient, version: int, size: int) -> None:
    """OSS docs, ListObjects and ListObjectsV2: keys in byte order, max-keys a page."""
    found = [
        key for page in pages(oss, version, **{"max-keys": str(size)}) for key in page.all("Key")
    ]
    assert found == KEYS


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_delimiter_rolls_keys_up_and_prefixes_count_as_entries(
    oss: RawClient, version: int, size: int
) -> None:
    """OSS docs, ListObjectsV2, delimiter and CommonPrefixes."""
    keys, prefixes = [], []
    for page in pages(oss, version, **{"max-keys": str(size), "delimiter": "/"}):
        here = [p for p in page.all("Prefix") if p]
        assert len(page.all("Key")) + len(here) <= size
        keys += page.all("Key")
        prefixes += here
    assert keys == ["a", "b", "z"]
    assert prefixes == ["a/", "b/", "c d/"]


def test_a_prefix_with_delimiter_shows_one_level(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, prefix: the marker object of a directory is one of its keys."""
    page = oss.call("GET", query={"list-type": "2", "prefix": "b/", "delimiter": "/"})
    assert page.all("Key") == ["b/"]
    assert page.all("Prefix") == ["b/", "b/x/"]
    assert page.one("KeyCount") == "2"


def test_start_after_and_marker_are_exclusive(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, start-after; ListObjects, marker."""
    page = oss.call("GET", query={"list-type": "2", "start-after": "b"})
    assert page.all("Key") == KEYS[4:]
    assert page.one("StartAfter") == "b"
    assert oss.call("GET", query={"marker": "b"}).all("Key") == KEYS[4:]
    page = oss.call("GET", query={"list-type": "2", "start-after": "a/1", "delimiter": "/"})
    assert [p for p in page.all("Prefix") if p] == ["a/", "b/", "c d/"]


def test_keys_are_url_encoded_only_when_asked_for(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, encoding-type."""
    query = {"list-type": "2", "prefix": "c d/", "encoding-type": "url"}
    page = oss.call("GET", query=query)
    assert [unquote(key) for key in page.all("Key")] == ["c d/é"]
    assert unquote(page.one("Prefix")) == "c d/"
    assert " " not in page.one("Key")
    assert page.one("EncodingType") == "url"
    assert oss.call("GET", query={"prefix": "c d/"}).all("Key") == ["c d/é"]
    answer = oss.call("GET", query={"encoding-type": "rot13"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("value", ["0", "1001", "-1", "x"])
@pytest.mark.parametrize("version", [{}, {"list-type": "2"}])
def test_max_keys_is_1_to_1000(oss: RawClient, value: str, version: dict[str, str]) -> None:
    """OSS docs, ListObjectsV2, max-keys."""
    answer = oss.call("GET", query={"max-keys": value, **version})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_max_keys_is_100_unless_told(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, max-keys."""
    assert oss.call("GET", query={"list-type": "2"}).one("MaxKeys") == "100"
    assert oss.call("GET").one("MaxKeys") == "100"


def test_owners_are_shown_by_v1_and_by_v2_when_asked(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, fetch-owner."""
    query = {"list-type": "2", "prefix": "z"}
    assert oss.call("GET", query={"prefix": "z"}).all("DisplayName")
    assert not oss.call("GET", query=query).all("DisplayName")
    assert oss.call("GET", query={**query, "fetch-owner": "true"}).all("DisplayName")


def test_a_continuation_token_of_nobodys_making_is_refused(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, continuation-token: it is the server's own."""
    answer = oss.call("GET", query={"list-type": "2", "continuation-token": "!"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_page_that_ends_with_the_last_key_is_not_truncated(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, IsTruncated."""
    page = oss.call("GET", query={"list-type": "2", "max-keys": str(len(KEYS))})
    assert page.one("IsTruncated") == "false"
    assert not page.all("NextContinuationToken")


def model(
    keys: list[bytes], prefix: bytes, delimiter: bytes, start: bytes
) -> tuple[list[bytes], list[bytes]]:
    """What a listing is, said in the plainest way."""
    plain: list[bytes] = []
    groups: list[bytes] = []
    for key in sorted(keys):
        if not key.startswith(prefix) or key < start:
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            plain.append(key)
        elif key[: cut + len(delimiter)] not in groups:
            groups.append(key[: cut + len(delimiter)])
    return plain, groups


names = st.text("ab/é", min_size=1, max_size=6).filter(lambda name: name[0] != "/")


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with Storage(tmp_path_factory.mktemp("listing")) as storage:
        yield storage


@given(
    keys=st.sets(names, max_size=25),
    prefix=st.text("ab/", max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "b/"]),
    start=st.text("ab/", max_size=3),
    size=st.integers(1, 7),
)
def test_pages_of_any_bucket_agree_with_a_plain_model(
    playground: Storage, keys: set[str], prefix: str, delimiter: str, start: str, size: int
) -> None:
    """The index seeks past common prefixes; the model looks at every key."""
    bucket = playground.bucket("model", create=True)
    held = [key.encode() for key in keys]
    with bucket.batch():
        for key in held:
            bucket.put_bytes(key)
    try:
        wanted = model(held, prefix.encode(), delimiter.encode(), start.encode())
        plain: list[bytes] = []
        groups: list[bytes] = []
        at: bytes | None = start.encode()
        while at is not None:
            page = bucket.page(prefix.encode(), delimiter.encode(), at, size)
            assert len(page.entries) + len(page.prefixes) <= size
            assert page.next_start is None or len(page.entries) + len(page.prefixes) == size
            plain += [entry.key for entry in page.entries]
            groups += page.prefixes
            at = page.next_start
        assert (plain, groups) == wanted
    finally:
        with bucket.batch():
            for key in held:
                bucket.delete(key)


def test_a_prefix_of_many_keys_is_one_step(tmp_path: Path) -> None:
    """Ours: a listing seeks past a common prefix, whatever is under it."""
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("steps", create=True)
        with bucket.batch():
            for number in range(20_000):
                bucket.put_bytes(b"big/%06d" % number)
            bucket.put_bytes(b"small")
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        storage.index._db.set_progress_handler(step, 1)
        page = bucket.page(b"", b"/", b"", 1_000)
        storage.index._db.set_progress_handler(None, 1)
        assert [entry.key for entry in page.entries] == [b"small"]
        assert page.prefixes == [b"big/"]
        assert steps < 1_000  # sqlite instructions: a scan would take 100,000


def test_a_page_of_a_thousand_is_made_in_milliseconds(tmp_path: Path) -> None:
    """Ours: 1,000 of 20,000 keys in one directory; generous, since machines are shared."""
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("flat", create=True)
        with bucket.batch():
            for number in range(20_000):
                bucket.put_bytes(b"d/%06d" % number)
        best = 1.0
        for _ in range(5):
            started = time.thread_time()
            page = bucket.page(b"d/", b"/", b"d/010000", 1_000)
            best = min(best, time.thread_time() - started)
        assert len(page.entries) == 1_000
        assert best < 0.02
