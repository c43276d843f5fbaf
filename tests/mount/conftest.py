"""Fixtures: one emulator for the session, buckets of their own, mounts that end with the test.

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

_numbers = itertools.count()

MountMaker = Callable[..., Mount]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("buckets"), fast_etags=True) as running:
        yield running


@pytest.fixture
def bucket(emulator: EmulatorProcess) -> oss2.Bucket:
    """A bucket of the test's own, seen through oss2."""
    first = emulator.oss2_bucket()
    bucket = oss2.Bucket(first.auth, emulator.endpoint, f"test-{next(_numbers):04d}")
    bucket.create_bucket()
    emulator.clear_requests()
    return bucket


@pytest.fixture
def mount(emulator: EmulatorProcess, bucket: oss2.Bucket, tmp_path: Path) -> Iterator[MountMaker]:
    """Mount the test's bucket with some options; call it again for a second mount."""
    with ExitStack() as stack:

        def make(*options: str, prefix: str = "") -> Mount:
            directory = tmp_path / f"mount-{next(_numbers)}"
            made = Mount(emulator, directory, *options, bucket=bucket.bucket_name, prefix=prefix)
            return stack.enter_context(made)

        yield make
