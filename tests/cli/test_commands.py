"""The command itself: quick, and never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ossfs as package
from ossfs.cli import handover
from ossfs.cli.main import COMMANDS
from ossfs.cli.sample import BUCKET
from ossfs.config.again import Again
from ossfs.config.options import MountOptions
from ossfs.credentials import Credentials
from ossfs.credentials.sources import Given
from ossfs.emulator.storage import Storage
from tests.cli.command import Ossfs

HEAVY = ("trio", "pyfuse3", "oss2", "requests", "aiohttp", "asyncio", "sqlite3")

LOADED_BY = f"""
import json, sys
from ossfs.cli.main import status_of
status = status_of(sys.argv[1:])
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
sys.exit(status)
"""


def test_help_and_mount_load_nothing_heavy(ossfs: Ossfs) -> None:
    for words in (["--help"], ["--version"], ["mount", "--help"], ["mount", "-x"], ["umount", "/"]):
        done = subprocess.run(
            [sys.executable, "-c", LOADED_BY, *words], capture_output=True, text=True, check=False
        )
        assert json.loads(done.stdout.splitlines()[-1]) == [], words


def test_the_version_is_one_line(ossfs: Ossfs) -> None:
    assert ossfs("--version").stdout == f"ossfs {package.__version__}\n"


def test_the_help_names_every_command(ossfs: Ossfs) -> None:
    reply = ossfs("--help")
    assert reply.status == 0
    for name in COMMANDS:
        assert f"  {name} " in reply.stdout
        assert ossfs(name, "--help").status == 0


def test_without_a_command_the_help_is_an_error(ossfs: Ossfs) -> None:
    reply = ossfs()
    assert reply.status == 2
    assert "Commands:" in reply.stderr


def test_the_configuration_survives_the_handover() -> None:
    options = MountOptions("bucket", "/mnt/\udcff", kernel_words=("noexec",), attr_timeout=1.5)
    source = Given(Credentials("id", "secret", "token"))
    again = Again(
        ("oss://b", "/m"), (("conf", "/f"), ("ro", None)), {"OSS_REGION": "x"}, True, "/d", False
    )
    there, keys, said = handover.decode(handover.encode(options, source, again))
    assert there == options
    assert said == again
    assert keys.fetch() == source.fetch()


def test_the_sample_bucket_is_the_same_every_time(tmp_path: Path) -> None:
    from ossfs.cli.sample import fill

    sums = set()
    for name in ("a", "b"):
        fill(tmp_path / name)
        with Storage(tmp_path / name) as storage:
            record = storage.bucket(BUCKET).get(b"SHA256SUMS")
            sums.add(record.crc64)
    assert len(sums) == 1
