"""What the daemon makes of its options."""

from __future__ import annotations

import pytest

from ossfs.config.options import MountOptions
from ossfs.credentials import Credentials, StaticCredentials
from ossfs.daemon import _open_store


@pytest.mark.parametrize("milliseconds", [1_000, 6_000, 60_000, 900_000])
def test_a_request_outlives_a_silent_server_and_is_made_again(milliseconds: int) -> None:
    options = MountOptions(
        "bucket", "/mnt", oss_endpoint="127.0.0.1", oss_request_timeout_ms=milliseconds
    )
    store = _open_store(options, StaticCredentials(Credentials("id", "secret")))
    assert 2 * store._transport._read_timeout < milliseconds / 1000
    assert 2 * store._transport._connect_timeout < milliseconds / 1000
    store.close()
