"""Conformance of the stores with a server: no bucket, no right, no answer, no time.

A store in memory has no server that could refuse; these run on those with one.
"""

from __future__ import annotations

import socket
import time

import pytest

from ossfs.store.errors import DeadlineExceeded, Denied, NoBucket, NotFound, Unavailable

CALLS = {
    "probe": lambda store: store.probe(b""),
    "list_page": lambda store: store.list_page(b""),
    "head": lambda store: store.head(b"a"),
    "head full": lambda store: store.head(b"a", full=True),
    "get": lambda store: store.read(b"a", 0, 1),
    "put": lambda store: store.put(b"a", [b"x"]),
    "append": lambda store: store.append(b"a", 0, [b"x"]),
    "copy": lambda store: store.copy(b"a", b"b"),
    "delete": lambda store: store.delete(b"a"),
    "delete_many": lambda store: store.delete_many([b"a"]),
    "create_upload": lambda store: store.create_upload(b"a"),
    "upload_part": lambda store: store.upload_part(b"a", "0" * 32, 1, [b"x"]),
    "list_uploads": lambda store: store.list_uploads(b""),
    "put_symlink": lambda store: store.put_symlink(b"a", b"b"),
    "get_symlink": lambda store: store.get_symlink(b"a"),
}


BY_HEAD = ("head", "head full", "get_symlink")
NEEDS = {"append": "append", "put_symlink": "symlink"}


@pytest.fixture(params=CALLS)
def call(request, served):
    needed = NEEDS.get(request.param)
    if needed and not getattr(served().capabilities, needed):
        pytest.skip(f"the store has no {needed}, which it says without asking")
    return CALLS[request.param]


def test_a_bucket_that_is_not_there_is_no_bucket_and_no_absence(request, served, call):
    if served().is_filer and request.node.callspec.params["call"] in BY_HEAD:
        pytest.skip("S3 answers a HEAD without a body: a missing bucket looks like no object")
    with pytest.raises(NoBucket) as caught:
        call(served(bucket="no-such-bucket-here"))
    assert not isinstance(caught.value, NotFound)


def test_an_unknown_key_is_denied(served, call):
    with pytest.raises(Denied) as caught:
        call(served(key_id="nobody"))
    assert caught.value.status == 403


def test_a_wrong_secret_is_denied_and_shown_nowhere(served, call):
    with pytest.raises(Denied) as caught:
        call(served(key_secret="s3cr3t-s3cr3t"))
    assert "s3cr3t" not in repr(caught.value) + str(caught.value)


def test_nobody_listening_is_unavailable_at_once(served, call):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        began = time.monotonic()
        with pytest.raises(Unavailable):
            call(served(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}"))
    assert time.monotonic() - began < 5


def test_a_deadline_that_has_passed_is_kept(served):
    with pytest.raises(DeadlineExceeded):
        served().bare.head(b"a", deadline=time.monotonic() - 1)


def test_a_server_that_never_answers_costs_no_more_than_the_deadline(served):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = served(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        for call in (
            lambda deadline: store.bare.head(b"a", deadline=deadline),
            lambda deadline: store.bare.get_range_into(
                b"a", 0, [memoryview(bytearray(1))], if_match=None, deadline=deadline
            ),
            lambda deadline: store.bare.put(b"a", [b"x"], deadline=deadline),
        ):
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                call(began + 0.2)
            assert 0.15 < time.monotonic() - began < 5
