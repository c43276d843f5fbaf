"""The end of a mount, also of one whose tasks fail: what is not in the bucket is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from ossfs import bucket, daemon
from ossfs.config.options import MountOptions
from ossfs.credentials import ANONYMOUS, StaticCredentials
from ossfs.runtime.failure import cause_of
from ossfs.store.memory import MemoryStore
from ossfs.tree.inodes import ROOT
from ossfs.vfs.names import WritableFileSystem

DATA = os.urandom(3 * 1024**2)


class NoSession:
    """Mounts nothing."""

    device = ""

    def __init__(self, *_words: object) -> None:
        pass

    def mount(self, *_words: object) -> None:
        pass

    async def shake_hands(self) -> None:
        pass

    def clear_away(self, *, disconnected: bool) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("failing", [False, True])
def test_a_task_that_fails_takes_no_upload_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: bool
) -> None:
    store = MemoryStore()
    built: list[WritableFileSystem] = []
    written = trio.Event()
    build = daemon._Daemon._build

    def noting(self: Any, *parts: Any) -> WritableFileSystem:
        built.append(build(self, *parts))
        return built[0]

    async def serve(**_how: int) -> None:
        _, handle = await built[0].create(ROOT, b"f", os.O_RDWR | os.O_CREAT)
        await built[0].write(handle, 0, DATA)
        written.set()
        if failing:
            await trio.sleep_forever()

    async def fail(*_words: object) -> None:
        await written.wait()
        if failing:
            raise RuntimeError("by plan")

    monkeypatch.setattr(bucket, "open_store", lambda *_words: store)
    monkeypatch.setattr(daemon, "Session", NoSession)
    monkeypatch.setattr("pyfuse3.main", serve)
    monkeypatch.setattr(daemon._Daemon, "_build", noting)
    monkeypatch.setattr(daemon._Daemon, "_renew_keys", fail)
    options = MountOptions(
        bucket="buck",
        mountpoint=str(tmp_path),
        total_mem_limit=128 * 1024**2,
        upload_buffer_size=1024**2,
        oss_request_timeout_ms=1000,
    )
    mount = daemon._Daemon(
        options,
        StaticCredentials(ANONYMOUS),
        lambda: True,
        starter=None,
        reread=None,
        until_hangup=False,
    )
    if failing:
        with pytest.raises(BaseExceptionGroup) as ended:
            trio.run(mount.run)
        assert str(cause_of(ended.value)) == "by plan"
    else:
        trio.run(mount.run)
    assert store.head(b"f", full=False, deadline=0).size == len(DATA)
