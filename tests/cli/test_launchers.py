"""`ossfs2` and `jindo-fuse` as their users type them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ossfs.cli.jindo_fuse import translated as of_jindo
from ossfs.cli.ossfs2 import translated as of_ossfs2
from ossfs.runtime.failure import ExitStatus, UserError
from tests.cli.command import Ossfs, Reply

COMMANDS = Path(__file__).resolve().parents[2] / "cmd"


def launch(ossfs: Ossfs, program: str, *words: str) -> Reply:
    return ossfs.run([str(COMMANDS / program), *words])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("mount /m -c /f --a=b", "mount --dialect=ossfs2 /m --conf=/f --a=b"),
        ("mount /m --conf=/f", "mount --dialect=ossfs2 /m --conf=/f"),
        ("mount --attr_timeout 3 /m", "mount --dialect=ossfs2 --attr_timeout=3 /m"),
        ("mount -attr_timeout=3 /m -f", "mount --dialect=ossfs2 --attr_timeout=3 /m -f"),
        ("mount --noreaddirplus --ro /m", "mount --dialect=ossfs2 --readdirplus=false --ro /m"),
        ("mount --no_symlink /m", "mount --dialect=ossfs2 --no_symlink /m"),
        ("mount /m -o a=b,c", "mount --dialect=ossfs2 /m -o a=b,c"),
        ("mount --unheard /m", "mount --dialect=ossfs2 --unheard /m"),
        ("mount -h", "mount --dialect=ossfs2 --help"),
        ("b /m -o a=b,_netdev,c", "mount --dialect=ossfs2 -o a=b,_netdev,c -- b /m"),
        ("b /m -n -o rw,conf=/f", "mount --dialect=ossfs2 -o conf=/f -- b /m"),
        ("stats show -p 12 -l", "stats -p 12"),
        ("stats /m", "stats /m"),
    ],
)
def test_what_ossfs2_takes_becomes_what_ossfs_takes(words: str, wanted: str) -> None:
    assert of_ossfs2(words.split()) == wanted.split()


@pytest.mark.parametrize("words", ["", "b /m", "umount /m", "mount -c", "mount --attr_timeout"])
def test_what_ossfs2_never_takes_is_refused(words: str) -> None:
    with pytest.raises(UserError) as refused:
        of_ossfs2(words.split())
    assert refused.value.status is ExitStatus.USAGE


def test_jindo_fuse_reads_its_configuration_where_it_always_lies(tmp_path: Path) -> None:
    environ = {"JINDOSDK_CONF_DIR": str(tmp_path)}
    assert of_jindo(["/m"], environ) == ["mount", "--dialect=jindofuse", "/m"]
    (tmp_path / "jindosdk.cfg").write_text("")
    named = f"--conf={tmp_path}/jindosdk.cfg"
    assert of_jindo(["/m", "-f"], environ) == ["mount", "--dialect=jindofuse", named, "/m", "-f"]
    for words in (["-c", "/f"], ["-oconf=/f"], ["-o", "ro,conf=/f"], ["--conf=/f"]):
        assert named not in of_jindo(["/m", *words], environ)
    assert of_jindo(["--version"], {}) == ["--version"]


def test_ossfs2_mounts_from_its_file_and_warns_of_what_it_does_not_know(ossfs: Ossfs) -> None:
    conf = ossfs.directory / "ossfs2.conf"
    conf.write_text(
        f"# a comment\n--oss_endpoint={ossfs.emulator.endpoint}\n"
        f"--oss_bucket={ossfs.emulator.bucket}\n--log_dir={ossfs.logs}\n--unheard_of=1\n"
    )
    reply = launch(ossfs, "ossfs2", "mount", str(ossfs.point), "-c", str(conf), "--ro=true")
    assert reply.status == 0, reply
    assert reply.stdout == f"ossfs: mounted {ossfs.source} on {ossfs.point}\n"
    assert "unknown option" in reply.complaint
    assert "(ignored, as ossfs2 does)" in reply.complaint
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    told = launch(ossfs, "ossfs2", "stats", str(ossfs.point))
    assert told.status == 0
    assert "requests.head" in told.stdout


def test_ossfs2_is_called_by_mount_8_as_ever(ossfs: Ossfs) -> None:
    reply = launch(
        ossfs,
        *("ossfs2", ossfs.emulator.bucket, str(ossfs.point)),
        *("-o", f"{ossfs.options},_netdev,x-systemd.automount,nodev"),
    )
    assert reply.status == 0, reply
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_ossfs2_tells_its_version_in_three_lines(ossfs: Ossfs) -> None:
    reply = launch(ossfs, "ossfs2", "--version")
    names = [line.partition(":")[0] for line in reply.stdout.splitlines()]
    assert names == ["Version ID", "Commit ID", "Build Time"]


def test_jindo_fuse_mounts_its_uri(ossfs: Ossfs) -> None:
    reply = launch(
        ossfs,
        *("jindo-fuse", str(ossfs.point), f"-ouri={ossfs.source}/dir/"),
        *("-oattr_timeout=3", "-oentry_timeout=0", "-onegative_timeout=0", "-oauto_cache"),
        *("-ono_symlink", f"-ofs.oss.endpoint={ossfs.emulator.endpoint}"),
        *("-ofs.oss.download.thread.concurrency=16", f"-olog_dir={ossfs.logs}"),
    )
    assert reply.status == 0, reply
    assert reply.stdout == f"ossfs: mounted {ossfs.source}/dir on {ossfs.point}\n"
    assert not reply.stderr
    assert (ossfs.point / "file.txt").read_text() == "hello\n"
    shown = subprocess.run(
        ["findmnt", "-nro", "FSTYPE", str(ossfs.point)], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "fuse.ossfs\n"
