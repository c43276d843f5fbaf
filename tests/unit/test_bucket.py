"""What is made of the options before the bucket is asked."""

from __future__ import annotations

import pytest

from ossfs.bucket import open_store
from ossfs.config.options import MountOptions
from ossfs.credentials import Credentials, StaticCredentials


@pytest.mark.parametrize("milliseconds", [1_000, 6_000, 60_000, 900_000])
def test_a_request_outlives_a_silent_server_and_is_made_again(milliseconds: int) -> None:
    options = MountOptions(
        "bucket", "/mnt", oss_endpoint="127.0.0.1", oss_request_timeout_ms=milliseconds
    )
    store = open_store(options, StaticCredentials(Credentials("id", "secret")))
    assert 2 * store._transport._read_timeout < milliseconds / 1000
    assert 2 * store._transport._connect_timeout < milliseconds / 1000
    store.close()
