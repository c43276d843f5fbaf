"""Fixtures: servers for the session, buckets of their own, mounts that end with the test.

A test runs on the emulator, in a module that overrides `store` on SeaweedFS too; what that cannot
hold or has not is in `EXCLUDED` with its reason.

A machine without FUSE fails these tests; they are never skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import oss2
import pytest

from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount
from tests.support.s3_bucket import S3Bucket
from tests.support.weed import WeedProcess

_numbers = itertools.count()

MountMaker = Callable[..., Mount]

EXCLUDED = {
    "test_copies_of_a_tree_are_the_tree[s3-appendable]": "S3 has no appendable objects",
    "test_links_and_attributes_where_they_are_asked_for[s3]": "S3 has no symlink objects",
    "test_descriptors_closed_by_children_cost_no_request[s3]": "the emulator counts requests",
    "test_an_upload_in_vain_is_an_error_from_close_and_changes_nothing[s3]": "the emulator can be"
    " stopped and continued without losing its clock",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = EXCLUDED.get(item.name)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("buckets"), fast_etags=True) as running:
        yield running


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedProcess]:
    with WeedProcess(tmp_path_factory.mktemp("weed")) as running:
        yield running


@pytest.fixture
def store() -> str:
    """The protocol of the test's bucket: oss or s3."""
    return "oss"


@pytest.fixture
def server(request: pytest.FixtureRequest, store: str) -> EmulatorProcess | WeedProcess:
    started: EmulatorProcess | WeedProcess = request.getfixturevalue(
        "weed" if store == "s3" else "emulator"
    )
    return started


@pytest.fixture
def bucket(server: EmulatorProcess | WeedProcess) -> oss2.Bucket | S3Bucket:
    """A bucket of the test's own, seen through oss2 or through minio."""
    if isinstance(server, WeedProcess):
        name = f"test-{next(_numbers):04d}"
        server.make_bucket(name)
        return S3Bucket(server.client(), name)
    emulator = server
    first = emulator.oss2_bucket()
    bucket = oss2.Bucket(first.auth, emulator.endpoint, f"test-{next(_numbers):04d}")
    bucket.create_bucket()
    emulator.clear_requests()
    return bucket


@pytest.fixture
def data(bucket: oss2.Bucket) -> oss2.Bucket:
    """The test's bucket with four files, `data/file-N` with the bytes `old N`."""
    for number in range(4):
        bucket.put_object(f"data/file-{number}", b"old %d" % number)
    return bucket


@pytest.fixture
def mount(
    server: EmulatorProcess | WeedProcess, bucket: oss2.Bucket | S3Bucket, tmp_path: Path
) -> Iterator[MountMaker]:
    """Mount the test's bucket with some options; call it again for a second mount."""
    with ExitStack() as stack:

        def make(*options: str, prefix: str = "") -> Mount:
            directory = tmp_path / f"mount-{next(_numbers)}"
            made = Mount(server, directory, *options, bucket=bucket.bucket_name, prefix=prefix)
            return stack.enter_context(made)

        yield make
