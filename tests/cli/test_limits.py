"""Limits of the system: a mount works within ordinary ones, and names one that is too low."""

from __future__ import annotations

import os

import pytest

from ossfs.cli import mounts
from tests.cli.command import Ossfs, serving_processes

BIG = bytes(range(256)) * 4096 * 48


@pytest.mark.parametrize("limit", ["-v 4000000", "-v 1000000", "-v 500000", "-n 64", "-n 32"])
def test_ordinary_limits_are_lived_with(ossfs: Ossfs, limit: str) -> None:
    bucket = ossfs.emulator.oss2_bucket()
    bucket.put_object("big", BIG)
    reply = ossfs.shell(f'ulimit -S {limit}; ulimit -H {limit}; "$@"', *ossfs.usual)
    assert (reply.status, reply.stderr) == (0, "")
    assert (ossfs.point / "big").read_bytes() == BIG
    assert os.listdir(ossfs.point / "dir") == ["file.txt"]
    assert ossfs("umount", "mnt").status == 0
    bucket.delete_object("big")


@pytest.mark.parametrize("words", [(), ("-f",)])
def test_more_memory_than_can_be_reserved_is_refused_by_name(
    ossfs: Ossfs, words: tuple[str, ...]
) -> None:
    reply = ossfs.mount("-o", "total_mem_limit=1P", *words)
    assert reply.status == 2
    complaint = reply.stderr.splitlines()[-1]
    assert complaint.startswith("ossfs: total_mem_limit: 1P for buffers cannot be reserved")
    assert "make it smaller" in complaint
    assert "ulimit -v" in complaint
    assert mounts.mount_at(str(ossfs.point)) is None


@pytest.mark.parametrize("limit", ["-v 300000", "-v 150000", "-v 60000", "-n 12", "-n 9", "-n 7"])
def test_a_limit_that_is_too_low_is_one_line_that_names_it(ossfs: Ossfs, limit: str) -> None:
    reply = ossfs.shell(f'ulimit {limit}; "$@"', *ossfs.usual)
    if reply.status == 0:  # enough on this machine
        assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
        return
    assert reply.status in (1, 7)
    assert f"ulimit {limit.split()[0]}" in reply.complaint
    assert serving_processes(ossfs.point) == []


def test_what_goes_wrong_within_points_to_the_log(ossfs: Ossfs) -> None:
    code = "import ossfs.config.derive as d; d.memory_limit = lambda *_: 1 / 0"
    (ossfs.directory / "sitecustomize.py").write_text(
        f"import sys\nif {mounts.SERVING_MODULE!r} in sys.orig_argv:\n"
        f"    sys.path.insert(0, {os.getcwd()!r})\n    {code}\n"
    )
    path = os.pathsep.join([str(ossfs.directory), os.environ.get("PYTHONPATH", "")])
    reply = ossfs.mount(PYTHONPATH=path)
    assert reply.status == 1
    assert reply.complaint == (
        f"internal error: ZeroDivisionError: division by zero; see {ossfs.logs}/ossfs.log"
    )
    assert "Traceback" in ossfs.log
