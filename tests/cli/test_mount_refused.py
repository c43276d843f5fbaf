"""Everything that keeps a mount from starting: one line, a documented status, in under 15 s."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ossfs.cli import main, mount, mounts, preflight
from ossfs.config import arguments, validate
from ossfs.runtime.failure import ExitStatus, UserError
from tests.cli.command import Ossfs, Reply, serving_processes
from tests.cli.conftest import TwoUsers
from tests.support import canned


def refused(reply: Reply, status: ExitStatus, *said: str) -> None:
    assert reply.status == status, reply.stderr
    assert reply.stdout == ""
    for text in said:
        assert text in reply.complaint


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "atr_timeout=1"], 'unknown option "atr_timeout"; did you mean attr_timeout?'),
        (["-o", "attr_timeout=-1"], "legal: 0 to 31536000 seconds (default 60)"),
        (["--prefetch_chunk_size=1K"], "legal: 1M to 128M"),
        (["-o", "ro=perhaps"], "legal: true or false"),
        (["-x"], "unknown switch -x"),
        (["extra"], "usage: ossfs mount"),
        (["-o", "log_dir=mnt/log"], "inside the mount point"),
        (["-o", "log_dir=/proc/none"], "choose another: -o log_dir=DIR"),
        (["-o", "log_dir=link/log"], "link/log lies inside the mount point"),
    ],
)
def test_a_bad_option(ossfs: Ossfs, words: list[str], said: str) -> None:
    (ossfs.directory / "link").symlink_to("mnt")
    refused(ossfs.mount(*words), ExitStatus.USAGE, said)


@pytest.mark.parametrize("option", ["temp_dir", "disk_data_cache_dir"])
def test_a_directory_that_leads_into_the_mount(tmp_path: Path, option: str) -> None:
    point = tmp_path / "mnt"
    point.mkdir()
    (tmp_path / "link").symlink_to("mnt")
    words = ["oss://buck", str(point), "--oss_region=cn-hangzhou", f"--{option}={tmp_path}/link"]
    asked = arguments.scan([*words, "--disk_data_cache_size=1G"])
    options = validate.resolve(asked, {}, validate.Host(0, 0, user_allow_other=True)).options
    with pytest.raises(UserError, match=f"{option}=.*/link lies inside the mount point") as told:
        preflight.check_directories(options)
    assert told.value.status is ExitStatus.USAGE
    preflight.check_directories(replace(options, mountpoint=f"{tmp_path}/other"))


def test_no_endpoint(ossfs: Ossfs) -> None:
    reply = ossfs("mount", ossfs.source, str(ossfs.point))
    refused(reply, ExitStatus.USAGE, "oss_endpoint is missing")


def test_an_unknown_command(ossfs: Ossfs) -> None:
    refused(ossfs("mont"), ExitStatus.USAGE, "No such command 'mont'")


def test_a_missing_mount_point(ossfs: Ossfs) -> None:
    ossfs.point.rmdir()
    refused(ossfs.mount(), ExitStatus.MOUNTPOINT, f"{ossfs.point} does not exist; mkdir -p")


def test_a_mount_point_that_is_a_file(ossfs: Ossfs) -> None:
    ossfs.point.rmdir()
    ossfs.point.touch()
    refused(ossfs.mount(), ExitStatus.MOUNTPOINT, "is not a directory")


def test_a_mount_point_that_is_not_empty(ossfs: Ossfs) -> None:
    (ossfs.point / "file").touch()
    refused(ossfs.mount(), ExitStatus.MOUNTPOINT, "is not empty", "nonempty")


def test_a_newline_in_a_name_leaves_the_message_one_line(ossfs: Ossfs) -> None:
    reply = ossfs("mount", ossfs.source, "no\nsuch", "-o", ossfs.options)
    refused(reply, ExitStatus.MOUNTPOINT, r"no\nsuch does not exist")


def test_no_credentials(ossfs: Ossfs) -> None:
    reply = ossfs.mount(**dict.fromkeys(ossfs.keys))
    refused(reply, ExitStatus.CREDENTIALS, "no credentials", "passwd_file")


def test_a_passwd_file_others_can_read(ossfs: Ossfs, tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(":".join(ossfs.keys.values()))
    path.chmod(0o644)
    reply = ossfs.mount(f"--passwd_file={path}")
    refused(reply, ExitStatus.CREDENTIALS, "mode 0644", "chmod 600")


def test_a_program_that_gives_no_keys(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "credential_process=/bin/false")
    refused(reply, ExitStatus.CREDENTIALS, "credential_process /bin/false", "ended with status 1")
    reply = ossfs.mount("-o", "credential_process=/no/such/program")
    refused(reply, ExitStatus.CREDENTIALS, "there is no such program")


def test_a_role_without_a_metadata_service(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "ram_role=http://127.0.0.1:1/keys/of/role")
    refused(reply, ExitStatus.CREDENTIALS, "ram_role", "does not answer", "Connection refused")


def test_a_wrong_secret(ossfs: Ossfs) -> None:
    reply = ossfs.mount(OSS_ACCESS_KEY_SECRET="wrong")
    refused(reply, ExitStatus.CREDENTIALS, "SignatureDoesNotMatch", ossfs.emulator.bucket)


def test_an_unknown_key(ossfs: Ossfs) -> None:
    reply = ossfs.mount(OSS_ACCESS_KEY_ID="nobody")
    refused(reply, ExitStatus.CREDENTIALS, "InvalidAccessKeyId")


def test_no_such_bucket(ossfs: Ossfs) -> None:
    ossfs.source = "oss://no-such-bucket"
    refused(ossfs.mount(), ExitStatus.NO_BUCKET, "'no-such-bucket'", "does not exist")


def test_an_endpoint_where_nobody_listens(ossfs: Ossfs) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound but not listening: refused, and nobody else's
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        reply = ossfs.mount("-o", f"oss_endpoint={endpoint}")
    refused(reply, ExitStatus.UNREACHABLE, endpoint, "cannot be reached")


def test_an_endpoint_whose_name_is_unknown(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "oss_endpoint=http://ossfs.invalid")
    refused(reply, ExitStatus.UNREACHABLE, "http://ossfs.invalid")


def test_an_endpoint_that_speaks_no_tls(ossfs: Ossfs) -> None:
    secure = ossfs.emulator.endpoint.replace("http:", "https:")
    reply = ossfs.mount("-o", f"oss_endpoint={secure}")
    refused(reply, ExitStatus.UNREACHABLE, f"write oss_endpoint={ossfs.emulator.endpoint}")


ELSEWHERE = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error>
  <Code>AccessDenied</Code>
  <Message>The bucket you are attempting to access must be addressed using the specified endpoint.
 Please send all future requests to this endpoint.</Message>
  <RequestId>5A408B4B42BD0241CE407E2B</RequestId>
  <HostId>data.oss-cn-hangzhou.aliyuncs.com</HostId>
  <Bucket>data</Bucket>
  <Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>
</Error>"""
"""As OSS answers at the endpoint of a region that the bucket is not in."""


def test_a_bucket_of_another_region(ossfs: Ossfs) -> None:
    answer = canned.reply(403, ELSEWHERE, "x-oss-request-id: 5A408B4B42BD0241CE407E2B")
    with canned.CannedServer([answer]) as server:
        endpoint = f"http://127.0.0.1:{server.port}"
        reply = ossfs.mount("-o", f"oss_endpoint={endpoint}")
    refused(reply, ExitStatus.NO_BUCKET, "write oss_endpoint=http://oss-cn-beijing.aliyuncs.com")


def test_a_region_that_the_bucket_is_not_in(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "oss_region=hangzhou")
    refused(reply, ExitStatus.USAGE, "is not in region hangzhou", "oss_region")


def test_a_clock_that_is_wrong_is_not_taken_for_wrong_keys(ossfs: Ossfs) -> None:
    body = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference</Message></Error>"
    answer = canned.reply(403, body, "x-oss-request-id: 5A408B4B42BD0241CE407E2B")
    with canned.CannedServer([answer]) as server:
        reply = ossfs.mount("-o", f"oss_endpoint=http://127.0.0.1:{server.port}")
    refused(reply, ExitStatus.CREDENTIALS, "the clock of this machine", "set it right")


def test_an_endpoint_that_never_answers(ossfs: Ossfs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        reply = ossfs.mount("-o", f"oss_endpoint={endpoint}")
    refused(reply, ExitStatus.UNREACHABLE, endpoint)


def test_a_mount_that_fails_says_why_and_nothing_else(ossfs: Ossfs) -> None:
    ossfs.source = "oss://no-such-bucket"
    keys = ",".join(f"{name.lower()}={value}" for name, value in ossfs.keys.items())
    refused(ossfs.mount("-o", keys), ExitStatus.NO_BUCKET)  # the warning about the secret waits


def test_a_refused_mount_leaves_neither_mount_nor_process(ossfs: Ossfs) -> None:
    ossfs.source = "oss://no-such-bucket"
    ossfs.mount()
    assert mounts.mount_at(str(ossfs.point)) is None
    assert serving_processes(ossfs.point) == []
    assert "no-such-bucket" in ossfs.log


def test_what_fusermount3_says_is_passed_on(users: TwoUsers) -> None:
    set_limit = ["sh", "-c", "echo mount_max = 0 > /etc/fuse.conf"]
    assert users.root.run([*users.root.prefix, *set_limit]).status == 0
    for words in ([], ["-f"]):
        reply = users.nobody.mount(*words)
        assert reply.status == ExitStatus.FUSE
        assert "too many FUSE filesystems mounted; mount_max=N can be set in" in reply.stderr


def test_a_root_that_may_not_mount_is_told_what_it_lacks(ossfs: Ossfs, tmp_path: Path) -> None:
    bounded = Ossfs(ossfs.emulator, tmp_path, ["setpriv", "--bounding-set=-sys_admin"])
    refused(bounded.mount(), ExitStatus.FUSE, "Operation not permitted", "--cap-add SYS_ADMIN")


def test_a_missing_fuse_device(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none is missing; modprobe fuse") as found:
        preflight.check_fuse(str(tmp_path / "none"))
    assert found.value.status is ExitStatus.FUSE


def test_a_fuse_device_without_a_driver(tmp_path: Path) -> None:
    (tmp_path / "fuse").mkdir()
    with pytest.raises(UserError, match="cannot be opened") as found:
        preflight.check_fuse(str(tmp_path / "fuse"))
    assert found.value.status is ExitStatus.FUSE


@pytest.fixture
def ill_server(
    ossfs: Ossfs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], int]:
    """Mount with a serving process that runs `code` instead; returns the status."""

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own stay as they are

    def attempt(code: str) -> int:
        (tmp_path / "sitecustomize.py").write_text(
            f"import os, sys, time\nif {mounts.SERVING_MODULE!r} in sys.orig_argv:\n    {code}\n"
        )
        for name, value in ossfs.environment(PYTHONPATH=str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        return main.status_of(["mount", ossfs.source, str(ossfs.point), "-o", ossfs.options])

    return attempt


def test_a_serving_process_that_dies_at_once_is_quoted(
    ill_server: Callable[[str], int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert ill_server("os.write(2, b'no memory left\\n'); os._exit(9)") == ExitStatus.FAILURE
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "ended with status 9 (no memory left)" in said


def test_a_serving_process_that_says_nothing_is_ended_at_the_deadline(
    ill_server: Callable[[str], int],
    ossfs: Ossfs,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mount.START_DEADLINE_S < 15
    monkeypatch.setattr(mount, "START_DEADLINE_S", 0.5)
    assert ill_server("time.sleep(60)") == ExitStatus.FAILURE
    assert "did not answer" in capfd.readouterr().err
    assert serving_processes(ossfs.point) == []
