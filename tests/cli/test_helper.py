"""`mount -t ossfs`, /etc/fstab and `mount -a`, with the helper where mount(8) looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ossfs.cli.helper import translated
from ossfs.runtime.failure import ExitStatus, UserError
from tests.cli.command import Ossfs, Reply

HELPER = Path(__file__).resolve().parents[2] / "cmd" / "mount.ossfs"

PRELUDE = f"""set -e
here=$1; shift
mkdir "$here/sbin"
mount -t tmpfs none "$here/sbin"
cp -a /usr/sbin/. "$here/sbin"
ln -s {HELPER} "$here/sbin/mount.ossfs"
mount --bind "$here/sbin" /usr/sbin
mount_point=$here/mnt
trap 'umount "$mount_point" || umount -l "$mount_point"' EXIT
"""
"""In a mount namespace of its own: /sbin has the helper there, and nowhere else."""


def in_namespace(ossfs: Ossfs, script: str, *words: str, **environment: str | None) -> Reply:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRELUDE + script]
    here = str(ossfs.directory)
    return ossfs.run([*command, "sh", here, *words], limit_s=30, **environment)


def test_mount_by_type(ossfs: Ossfs) -> None:
    script = """mount -t ossfs "$1" "$mount_point" -o "$2"
    cat "$mount_point/dir/file.txt"
    findmnt -nro SOURCE,FSTYPE "$mount_point"
    findmnt -nro OPTIONS "$mount_point" | grep -q '^ro,.*noexec' && echo read-only"""
    reply = in_namespace(ossfs, script, ossfs.source, ossfs.options + ",ro,noexec,_netdev")
    source = f"ossfs: mounted {ossfs.source} on {ossfs.point}"
    assert reply.stdout.splitlines() == [
        source,
        "hello",
        f"{ossfs.source} fuse.ossfs",
        "read-only",
    ], reply
    assert reply.status == 0


def test_a_line_of_fstab_and_mount_all_twice(ossfs: Ossfs) -> None:
    comma = ossfs.directory / "a,b"
    options = ossfs.options.replace(str(ossfs.logs), str(comma).replace(",", "\\,"))
    conf = ossfs.directory / "my.conf"
    conf.write_text("negative_timeout = 3\nro\n")
    fstab = ossfs.directory / "fstab"
    fstab.write_text(
        f"{ossfs.source} {ossfs.point} ossfs "
        f"defaults,_netdev,nofail,noauto,user,x-systemd.automount,conf={conf},{options} 0 0\n"
    )
    script = """export LIBMOUNT_FSTAB=$1
    mount "$mount_point"
    cat "$mount_point/dir/file.txt"
    umount "$mount_point"
    sed -i s/,noauto// "$1"
    mount -a
    mount -a
    findmnt -nr -o FSTYPE "$mount_point" | wc -l
    touch "$mount_point/x" 2>&1 | grep -o Read-only || true"""
    reply = in_namespace(ossfs, script, str(fstab))
    mounted = f"ossfs: mounted {ossfs.source} on {ossfs.point}"
    assert reply.stdout.splitlines() == [mounted, "hello", mounted, "1", "Read-only"], reply
    assert reply.status == 0
    assert (comma / "ossfs.log").exists()


def test_a_mistake_is_one_line_and_the_status_of_mount(ossfs: Ossfs) -> None:
    script = 'trap - EXIT; mount -t ossfs "$1" "$mount_point" -o "$2,atr_timeout=3"'
    reply = in_namespace(ossfs, script, ossfs.source, ossfs.options)
    assert reply.status == ExitStatus.USAGE
    assert "did you mean attr_timeout?" in reply.complaint


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("b /m", ["mount", "--", "b", "/m"]),
        ("b /m -o rw", ["mount", "--", "b", "/m"]),
        ("b /m -n -s -v -t ossfs -o rw,ro,a=b", ["mount", "-o", "ro,a=b", "--", "b", "/m"]),
        ("b /m -fnv -o a=b -o c", ["check", "-o", "a=b,c", "--", "b", "/m"]),
        (r"b /m -o a=b\,c,d=e\\f", ["mount", "-o", r"a=b\,c,d=e\\f", "--", "b", "/m"]),
    ],
)
def test_what_mount_says_becomes_what_ossfs_understands(words: str, wanted: list[str]) -> None:
    assert translated(words.split()) == wanted


@pytest.mark.parametrize("words", ["b", "", "b /m more", "b /m -o", "b /m -N 1", "b /m --x"])
def test_what_mount_never_says_is_refused(words: str) -> None:
    with pytest.raises(UserError) as refused:
        translated(words.split())
    assert refused.value.status is ExitStatus.USAGE
