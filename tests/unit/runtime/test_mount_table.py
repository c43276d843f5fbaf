"""The mount table, without a mount."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ossfs.runtime import mount_table
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.mount_table import Life, Mount, detach, life_of, mount_at, server_name, table

LINES = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/a\040b\011c\134d ro - fuse.ossfs oss://bucket/p\040q ro,user_id=7,group_id=8,x
41 22 0:36 / /mnt/\377 rw - fuse.ossfs oss://x/%C3%B6%20 rw,user_id=0,group_id=0
42 22 0:37 / /mnt/s rw - fuse.sshfs me@host:/ rw,user_id=1,group_id=1
"""


def test_the_table_is_read_with_its_escapes(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_bytes(LINES)
    root, mount, odd, foreign = table(str(path))
    assert root == Mount("/", "ext4", "/dev/sda1", "8:1", number=22)
    assert not root.fuse
    assert mount == Mount(
        "/mnt/a b\tc\\d", "fuse.ossfs", "oss://bucket/p q", "0:35", owner=7, group=8, number=40
    )
    assert mount.ours
    assert mount.fuse
    assert os.fsencode(odd.point) == b"/mnt/\xff"
    assert foreign.fuse
    assert not foreign.ours


def test_a_source_is_shown_as_the_user_named_it() -> None:
    assert Mount("/m", "fuse.ossfs", "oss://x/%C3%B6%20").shown == "oss://x/ö "
    assert Mount("/m", "fuse.sshfs", "host:/100%25").shown == "host:/100%25"


def test_an_owner_is_named_if_there_is_a_name() -> None:
    assert Mount("/m", "fuse.ossfs", "oss://x", owner=0).entitled == "root"
    nameless = Mount("/m", "fuse.ossfs", "oss://x", owner=4_000_000_000)
    assert nameless.owner_name == "user 4000000000"
    assert nameless.entitled == "user 4000000000 or root"


def test_the_name_of_a_server_fits_into_what_the_kernel_keeps_of_it() -> None:
    assert len(server_name(f"0:{2**20 - 1}")) == 15


def test_a_file_system_that_is_no_fuse_mount_is_alive() -> None:
    mount = mount_at("/proc")
    assert mount is not None
    assert life_of(mount) is Life.SERVED


def test_taking_away_what_is_no_mount_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, UserError)):
        detach(str(tmp_path), lazy=True)


def test_a_table_of_a_process_that_is_gone_is_no_matter_of_proc(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        table(str(tmp_path / "mountinfo"))


def test_without_proc_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ossfs.runtime.mount_table.SELF", str(tmp_path / "none"))
    with pytest.raises(UserError) as refused:
        table(str(tmp_path / "none"))
    assert refused.value.status is ExitStatus.FUSE


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_where_no_process_can_be_had_a_mount_is_taken_off_all_the_same(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse() -> int:
        raise OSError(number, os.strerror(number))

    taken: list[tuple[str, bool]] = []
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(mount_table, "_take_off", lambda *given: taken.append(given))
    mount_table.detach("/no/mount", lazy=True)
    assert taken == [("/no/mount", True)]
    with pytest.raises(OSError, match=os.strerror(number)):
        mount_table.life_of(mount_table.Mount("/", "fuse.ossfs", "oss://b"))
