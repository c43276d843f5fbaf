"""The end of a mount with bytes that are not in the bucket yet: they are saved, or named."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, run

DATA = os.urandom(20 << 20)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path / "far", fast_etags=True, latency_ms=100, bandwidth_mb=20) as run:
        yield run


@pytest.mark.parametrize("options", [(), ("enable_appendable_object",)], ids=["put", "append"])
def test_sigterm_saves_what_is_still_open(
    far: EmulatorProcess, tmp_path: Path, options: tuple[str, ...]
) -> None:
    with Mount(far, tmp_path / "m", *options) as mounted:
        handle = os.open(mounted.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(handle, DATA)
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait()
        with pytest.raises(OSError, match=r"abort|not connected"):
            os.close(handle)
        assert "saving 1 files before the end" in mounted.log
    assert far.oss2_bucket().get_object("f").read() == DATA


@pytest.mark.parametrize("way", ["umount", "sigterm"])
def test_what_close_did_not_wait_for_is_saved_at_the_end(
    far: EmulatorProcess, tmp_path: Path, way: str
) -> None:
    with Mount(far, tmp_path / "m", "sync_upload=false") as mounted:
        (mounted.path / "f").write_bytes(DATA)
        assert not far.oss2_bucket().object_exists("f")
        if way == "umount":
            run("umount", mounted.path)
        else:
            os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait(60)
    assert far.oss2_bucket().get_object("f").read() == DATA


def test_what_cannot_be_saved_is_named(far: EmulatorProcess, tmp_path: Path) -> None:
    with Mount(far, tmp_path / "m", "oss_request_timeout_ms=1000") as mounted:
        handle = os.open(mounted.path / "f", os.O_WRONLY | os.O_CREAT)
        os.write(handle, b"data")
        far.pause()
        try:
            os.kill(mounted.pid, signal.SIGTERM)
            mounted.wait(60)
        finally:
            far.resume()
        with pytest.raises(OSError, match=r"abort|not connected"):
            os.close(handle)
        assert "b'f' could not be saved" in mounted.log


def test_a_periodic_flush_shows_others_what_there_is(far: EmulatorProcess, tmp_path: Path) -> None:
    bucket = far.oss2_bucket()
    with Mount(far, tmp_path / "m", "flush_interval_ms=200") as mounted:
        with (mounted.path / "f").open("wb", buffering=0) as file:
            file.write(b"so far")
            for _ in range(100):
                if bucket.object_exists("f"):
                    break
            assert bucket.get_object("f").read() == b"so far"
            file.write(b", and more")
        assert bucket.get_object("f").read() == b"so far, and more"
