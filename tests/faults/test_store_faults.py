"""A store that dies, stalls or refuses: an error in time, a mount that lives on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossfs.emulator.storage import Storage
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches, python, run, wait_until

CONTENT = bytes(range(256)) * 4096 * 40


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    with Storage(tmp_path / "data", fast_etags=True) as storage:
        bucket = storage.bucket("test-bucket", create=True)
        bucket.put_bytes(b"big", CONTENT)
        bucket.put_bytes(b"small", b"small content")
        bucket.put_bytes(b"other", b"other content")
    with EmulatorProcess(tmp_path / "data", bandwidth_mb=20) as running:
        yield running


SLACK_S = 6.0
"""What a busy machine may add to a request's deadline."""


def failing(mounted: Mount, name: str, within: float) -> bytes:
    begun = time.monotonic()
    done = run("cat", mounted.path / name, check=False)
    assert done.returncode != 0
    assert time.monotonic() - begun < within
    return done.stderr


def test_a_store_killed_in_mid_read_is_an_error_in_time_and_nothing_worse(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    with Mount(
        emulator, tmp_path / "m", "oss_request_timeout_ms=3000", "attr_timeout=1"
    ) as mounted:
        with subprocess.Popen(
            ["cat", mounted.path / "big"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reader:
            assert reader.stdout is not None
            got = reader.stdout.read(1 << 20)
            emulator.kill()
            begun = time.monotonic()
            rest, complaint = reader.communicate(timeout=60)
            assert time.monotonic() - begun < 3 + SLACK_S
        assert reader.returncode != 0, "the reader was told that all is well"
        assert b"error" in complaint or b"timed out" in complaint
        got += rest
        assert got == CONTENT[: len(got)]
        failing(mounted, "small", 3 + SLACK_S)
        emulator.start()
        assert run("cat", mounted.path / "small").stdout == b"small content"
        assert run("cat", mounted.path / "big").stdout == CONTENT
        assert "failed after" in mounted.log


def test_a_store_that_stalls_is_given_up_at_the_deadline(
    emulator: EmulatorProcess, tmp_path: Path
) -> None:
    with Mount(
        emulator, tmp_path / "m", "oss_request_timeout_ms=2000", "attr_timeout=0"
    ) as mounted:
        assert run("cat", mounted.path / "small").stdout == b"small content"
        emulator.pause()
        try:
            assert b"timed out" in failing(mounted, "other", 2 + SLACK_S)
            assert b"timed out" in run("ls", mounted.path, check=False).stderr
        finally:
            emulator.resume()
        assert run("cat", mounted.path / "other").stdout == b"other content"


SMALL_REQUESTS = """
import os, sys, time
folder, pid, number, request = sys.argv[1], *map(int, sys.argv[2:4]), sys.argv[4]
os.chdir(folder)
fd = os.open("new", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"new content")
os.stat("small")
os.kill(pid, number)
begun = time.monotonic()
try:
    match request:
        case "HEAD":
            os.stat("nothing of the name")
        case "DELETE":
            os.unlink("small")
        case "PUT":
            os.close(fd)
except OSError as error:
    assert not isinstance(error, FileNotFoundError), "an absence that nobody told of"
    print(error.strerror, time.monotonic() - begun)
else:
    raise SystemExit("it is said to be done")
"""


@pytest.mark.parametrize("signal_name", ["SIGSTOP", "SIGKILL"])
@pytest.mark.parametrize("request_name", ["HEAD", "DELETE", "PUT"])
def test_a_small_request_that_meets_a_dead_store_fails_in_time_and_can_be_made_again(
    emulator: EmulatorProcess, tmp_path: Path, request_name: str, signal_name: str
) -> None:
    number = signal.Signals[signal_name]
    with Mount(emulator, tmp_path / "m", "oss_request_timeout_ms=2000") as mounted:
        words = [mounted.path, str(emulator.pid), str(int(number)), request_name]
        done = python(SMALL_REQUESTS, *words)
        if number is signal.SIGSTOP:
            emulator.resume()
        else:
            emulator.restart()
        assert float(done.stdout.split()[-1]) < 2 + SLACK_S
        assert "failed after" in mounted.log
        run("rm", "-f", mounted.path / "small")
        (mounted.path / "new").write_bytes(b"again")
        assert not (mounted.path / "small").exists()
        assert not (mounted.path / "nothing of the name").exists()
        assert (mounted.path / "new").read_bytes() == b"again"
        bucket = emulator.oss2_bucket()
        assert bucket.get_object("new").read() == b"again"
        assert not bucket.object_exists("small")


def test_a_bucket_that_vanished_is_an_io_error_and_not_an_empty_directory(
    tmp_path: Path,
) -> None:
    with (
        EmulatorProcess(tmp_path / "data") as emulator,
        Mount(emulator, tmp_path / "m", "attr_timeout=0") as mounted,
    ):
        bucket = emulator.oss2_bucket()
        bucket.put_object("file", b"1")
        assert run("cat", mounted.path / "file").stdout == b"1"
        bucket.delete_object("file")
        bucket.delete_bucket()
        for command in (["ls", mounted.path], ["cat", mounted.path / "file"]):
            done = run(*command, check=False)
            assert b"Input/output error" in done.stderr, done


def test_keys_that_expire_are_an_access_error_and_say_so(tmp_path: Path) -> None:
    with (
        EmulatorProcess(
            tmp_path / "data", token="temporary", token_expires=time.time() + 10
        ) as emu,
        Mount(emu, tmp_path / "m", "attr_timeout=0") as mounted,
    ):
        emu.oss2_bucket().put_object("file", b"1")
        assert run("cat", mounted.path / "file").stdout == b"1"
        denied = wait_until(
            lambda: (done := run("ls", mounted.path, check=False)).returncode and done, 20
        )
        assert b"Permission denied" in denied.stderr
        assert "SecurityTokenExpired" in mounted.log
        assert "temporary" not in mounted.log


def test_an_archived_object_is_listed_and_refused(tmp_path: Path) -> None:
    with (
        EmulatorProcess(tmp_path / "data") as emulator,
        Mount(emulator, tmp_path / "m") as mounted,
    ):
        emulator.oss2_bucket().put_object(
            "cold", b"1" * 10, headers={"x-oss-storage-class": "Archive"}
        )
        assert run("stat", "-c", "%s", mounted.path / "cold").stdout == b"10\n"
        drop_caches()
        assert b"Permission denied" in run("cat", mounted.path / "cold", check=False).stderr
        assert "restore" in mounted.log
