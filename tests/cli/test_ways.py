"""How requests leave: through a proxy, from given addresses, without keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Ossfs
from tests.support.emulator import EmulatorProcess


def test_all_requests_go_through_the_proxy_and_its_password_is_seen_nowhere(ossfs: Ossfs) -> None:
    # The emulator takes what a proxy is sent; the endpoint's own name leads nowhere.
    proxy = ossfs.emulator.endpoint.replace("http://", "http://user:hunter2-proxy@")
    reply = ossfs(
        *("mount", ossfs.source, str(ossfs.point)),
        *("-o", f"oss_endpoint=http://oss.invalid,path_style,log_dir={ossfs.logs}"),
        *("-o", "log_level=debug"),
        OSSFS_PROXY=proxy,
    )
    assert reply.status == 0, reply
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    (ossfs.point / "by-proxy").write_text("written")
    bucket = ossfs.emulator.oss2_bucket()
    assert bucket.get_object("by-proxy").read() == b"written"
    bucket.delete_object("by-proxy")
    assert "hunter2" not in ossfs.log + reply.stdout + reply.stderr
    shown = ossfs("check", ossfs.source, "-o", ossfs.options, OSSFS_PROXY=proxy)
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "OSSFS_PROXY" in shown.stdout


def test_requests_start_from_the_given_addresses(ossfs: Ossfs) -> None:
    assert ossfs.mount("-o", "bind_ips=127.0.0.5\\,127.0.0.6,enable_ipv6=false").status == 0
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_an_address_of_another_machine_is_one_line(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "bind_ips=192.0.2.1")
    assert reply.status == 2
    assert "bind_ips=192.0.2.1: no address of this machine" in reply.complaint


@pytest.mark.parametrize("region", ["", ",oss_region=cn-hangzhou"])
def test_a_public_bucket_needs_no_keys(ossfs: Ossfs, tmp_path: Path, region: str) -> None:
    with EmulatorProcess(tmp_path / "public", public=True) as public:
        public.oss2_bucket().put_object("file", b"for all")
        reply = ossfs(
            *("mount", f"oss://{public.bucket}", str(ossfs.point)),
            *("-o", f"oss_endpoint={public.endpoint},log_dir={ossfs.logs},anonymous{region}"),
            OSS_ACCESS_KEY_ID=None,
            OSS_ACCESS_KEY_SECRET=None,
        )
        assert reply.status == 0, reply
        assert (ossfs.point / "file").read_bytes() == b"for all"
        with pytest.raises(PermissionError):
            (ossfs.point / "new").write_bytes(b"1")
        assert ossfs("umount", str(ossfs.point)).status == 0


def test_a_bucket_that_is_not_public_says_so(ossfs: Ossfs) -> None:
    reply = ossfs.mount("-o", "anonymous", OSS_ACCESS_KEY_ID=None, OSS_ACCESS_KEY_SECRET=None)
    assert reply.status == 5
    assert "AccessDenied" in reply.complaint
