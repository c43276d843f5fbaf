"""Fixtures of the model tests on real mounts: servers of their own, then as in tests/mount."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mount.conftest import bucket, mount, server, store, weed
from tests.support.emulator import EmulatorProcess

__all__ = ["bucket", "emulator", "mount", "server", "store", "weed"]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """Equal bytes have equal ETags, as the models take it."""
    with EmulatorProcess(tmp_path_factory.mktemp("buckets"), fast_etags=False) as running:
        yield running
