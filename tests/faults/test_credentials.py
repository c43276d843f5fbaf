"""Keys that expire while a mount is at work: renewed in time, or when the store refuses them.

The emulator takes tokens that say themselves until when they are good (`--dated-tokens`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.emulator import KEY_ID, KEY_SECRET, EmulatorProcess
from tests.support.mount import Mount, drop_caches, python, run, wait_until

MIB = 1 << 20
LASTING = 3
"""Seconds for which a token is good at least; reading and writing take more than twice that."""
TOKEN = "hidden-token"

PROGRAM = f"""#!{sys.executable} -IS
import datetime, json, sys, time
claimed = int(sys.argv[1])
now = int(time.time()) + 1  # never less than {LASTING} s, however busy the machine
print(json.dumps({{
    "AccessKeyId": "{KEY_ID}",
    "AccessKeySecret": "{KEY_SECRET}",
    "SecurityToken": f"{TOKEN}.{{now + {LASTING}}}",
    "Expiration": datetime.datetime.fromtimestamp(now + claimed, datetime.UTC).isoformat(),
}}))
"""

SLOW_WRITER = """
import os, sys, time
piece = os.urandom(1 << 20)
with open(sys.argv[1], "wb", buffering=0) as file:
    for _ in range(16):
        file.write(piece)
        time.sleep(0.4)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a program that gives keys for LASTING seconds and claims what it is told to."""
    path = tmp_path / "give-keys"
    path.write_text(PROGRAM)
    path.chmod(0o700)
    return path


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    directory = tmp_path / "data"
    with EmulatorProcess(
        directory, token=TOKEN, dated_tokens=True, bandwidth_mb=4, latency_ms=5
    ) as running:
        yield running


@pytest.mark.parametrize("claimed", [LASTING, 3600])
def test_reads_and_writes_outlast_their_keys(
    emulator: EmulatorProcess, program: Path, tmp_path: Path, claimed: int
) -> None:
    """Keys that tell their end are renewed before it; of those that do not OSS says so."""
    options = ["prefetch_concurrency=1", "prefetch_chunk_size=1M", "upload_buffer_size=1M"]
    with Mount(
        emulator, tmp_path / "m", f"credential_process={program} {claimed}", *options
    ) as mounted:
        python(SLOW_WRITER, str(mounted.path / "file"), seconds=60)
        drop_caches()
        begun = time.monotonic()
        copied = (tmp_path / "copy").open("wb")
        with copied, (mounted.path / "file").open("rb") as file:
            while piece := file.read(MIB):
                copied.write(piece)
                time.sleep(0.4)
        assert time.monotonic() - begun > 2 * LASTING
        assert (tmp_path / "copy").stat().st_size == 16 * MIB
        run("cmp", tmp_path / "copy", mounted.path / "file")
        refused = sum(record["status"] == 403 for record in emulator.requests())
        if claimed == LASTING:
            assert refused == 0
        else:
            assert refused > 0
        assert TOKEN not in mounted.log
        assert KEY_SECRET not in mounted.log


def test_a_program_that_fails_for_a_while_costs_nothing_while_the_keys_are_good(
    emulator: EmulatorProcess, program: Path, tmp_path: Path
) -> None:
    with Mount(
        emulator, tmp_path / "m", f"credential_process={program} {LASTING}", "attr_timeout=0"
    ) as mounted:
        (mounted.path / "file").write_bytes(b"1")
        good = program.read_text()
        program.write_text(f"#!{sys.executable}\nprint('{TOKEN}')\n")
        wait_until(lambda: "no JSON; the keys at hand are kept" in mounted.log, 20)
        denied = wait_until(
            lambda: (done := run("ls", mounted.path, check=False)).returncode and done, 20
        )
        assert b"Permission denied" in denied.stderr
        program.write_text(good)
        wait_until(lambda: run("ls", mounted.path, check=False).stdout == b"file\n", 40)
        assert TOKEN not in mounted.log


def test_a_file_of_keys_is_read_again_when_they_are_refused(
    emulator: EmulatorProcess, program: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"

    def exchange() -> None:
        fresh = tmp_path / "fresh.json"
        fresh.touch(mode=0o600)
        fresh.write_bytes(run(program, "3600").stdout)
        fresh.rename(keys)

    exchange()
    with Mount(emulator, tmp_path / "m", f"credentials_file={keys}", "attr_timeout=0") as mounted:
        (mounted.path / "file").write_bytes(b"1")
        wait_until(lambda: run("ls", mounted.path, check=False).returncode, 20)
        exchange()
        assert run("ls", mounted.path).stdout == b"file\n"
