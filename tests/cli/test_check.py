"""`ossfs check`, and mounts whose options stand in a file."""

from __future__ import annotations

from pathlib import Path

from ossfs.runtime.failure import ExitStatus
from tests.cli.command import Ossfs


def conf_of(ossfs: Ossfs, tmp_path: Path, *lines: str) -> Path:
    """Return a file that says all there is to say but the mount point."""
    path = tmp_path / "my.conf"
    words = [f"--{word}" for word in ossfs.options.split(",")]
    keys = [
        f"oss_access_key_id = {ossfs.emulator.key_id}",
        f"oss_access_key_secret = {ossfs.emulator.key_secret}",
    ]
    text = ["# mine", f"--oss_bucket={ossfs.emulator.bucket}", *words, *keys, *lines]
    path.write_text("\n".join(text))
    path.chmod(0o600)
    return path


def test_a_mount_whose_options_and_keys_stand_in_a_file(ossfs: Ossfs, tmp_path: Path) -> None:
    path = conf_of(ossfs, tmp_path, "--ro")
    reply = ossfs("mount", str(ossfs.point), "-c", str(path), **dict.fromkeys(ossfs.keys))
    assert (reply.status, reply.stderr) == (0, "")
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    assert ossfs("umount", "mnt").status == 0
    assert ossfs.emulator.key_secret not in ossfs.log


def test_a_file_with_a_mistake_mounts_nothing_and_names_the_line(
    ossfs: Ossfs, tmp_path: Path
) -> None:
    path = conf_of(ossfs, tmp_path, "negativ_timeout=3")
    reply = ossfs("mount", str(ossfs.point), "-c", str(path))
    assert reply.status == ExitStatus.USAGE
    count = len(path.read_text().splitlines())
    assert f"{path} line {count}" in reply.complaint
    assert "did you mean negative_timeout?" in reply.complaint


def test_check_shows_every_option_with_its_origin_and_no_secret(
    ossfs: Ossfs, tmp_path: Path
) -> None:
    path = conf_of(ossfs, tmp_path, "upload_buffer_size=12M", "umask=022")
    reply = ossfs("check", "-c", str(path), "-o", "ro", OSS_REGION="cn-hangzhou")
    assert (reply.status, reply.stderr) == (0, "")
    lines = {" ".join(line.split()) for line in reply.stdout.splitlines()}
    count = len(path.read_text().splitlines())
    assert {
        f"mounts oss://{ossfs.emulator.bucket}",
        f"upload_buffer_size = 12M {path} line {count - 1}",
        "file_mode = 0755 default",
        "ro = true command line",
        "oss_region = cn-hangzhou OSS_REGION",
        "attr_timeout = 60 default",
        "oss_access_key_secret = (not shown) OSS_ACCESS_KEY_SECRET",
    } <= lines
    for secret in ossfs.keys.values():
        assert secret not in reply.stdout


def test_check_needs_a_bucket_and_takes_the_words_of_a_mount(ossfs: Ossfs) -> None:
    assert "no bucket is named" in ossfs("check").complaint
    assert ossfs("check", ossfs.source, str(ossfs.point), "-o", ossfs.options).status == 0
    assert ossfs("check", ossfs.source, "-o", ossfs.options).status == 0
    reply = ossfs("check", ossfs.source, "-o", "oss_endpoint=gopher://x")
    assert reply.status == ExitStatus.USAGE
    assert "Usage: ossfs check" in ossfs("check", "--help").stdout
