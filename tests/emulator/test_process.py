"""The command: how it starts, ends, survives, paces and records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ossfs.emulator.main import is_loopback
from ossfs.emulator.storage import Storage
from ossfs.runtime.failure import UserError
from tests.emulator.raw import RawClient
from tests.support.emulator import KEY_SECRET, EmulatorProcess


def client(emulator: EmulatorProcess) -> RawClient:
    return RawClient(emulator.port)


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        oss = client(emulator)
        oss.call("PUT", "replaced", body=b"old")
        oss.call("PUT", "replaced", body=b"new")
        oss.call("POST", "log", {"append": "", "position": "0"}, body=b"one")
        oss.call("POST", "log", {"append": "", "position": "3"}, body=b"two")
        upload = oss.call("POST", "parts", {"uploads": ""}).one("UploadId")
        query = {"uploadId": upload, "partNumber": "1"}
        etag = oss.call("PUT", "parts", query, body=b"part").headers["etag"]
        oss.call("PUT", "gone", body=b"x")
        oss.call("DELETE", "gone")
        oss.close()
        emulator.kill()
        emulator.start()
        oss = client(emulator)
        assert oss.call("GET", "replaced").body == b"new"
        assert oss.call("GET", "log").body == b"onetwo"
        assert oss.call("HEAD", "gone").status == 404
        body = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        )
        assert oss.call("POST", "parts", {"uploadId": upload}, body=body.encode()).status == 200
        assert oss.call("GET", "parts").body == b"part"
        oss.close()


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        oss = client(emulator)
        oss.call("PUT", "whole", body=b"kept")
        stray = tmp_path / emulator.bucket / "ab" / "ab0000000000000000000000"
        stray.write_bytes(b"half a body")
        oss.close()
        emulator.kill()
        emulator.start()
        assert not stray.exists()
        oss = client(emulator)
        assert oss.call("GET", "whole").body == b"kept"
        oss.close()


def test_a_directory_has_one_server_and_the_second_says_so_in_one_line(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path):
        second = subprocess.run(
            [sys.executable, "-m", "ossfs.emulator", "--dir", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        with pytest.raises(UserError):
            Storage(tmp_path)
    assert second.returncode == 1
    assert second.stdout == ""
    assert second.stderr.count("\n") == 1
    assert "in use by another emulator" in second.stderr


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path / "one") as emulator:
        second = subprocess.run(
            [
                *(sys.executable, "-m", "ossfs.emulator", "--dir", str(tmp_path / "two")),
                *("--port", str(emulator.port)),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert "cannot listen" in second.stderr


def test_a_directory_in_a_buckets_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    refused = subprocess.run(
        [sys.executable, "-m", "ossfs.emulator", "--dir", str(tmp_path), "--bucket", "photos"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "is there and no bucket" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        process = emulator._process
        assert process is not None
        oss = client(emulator)
        assert oss.call("PUT", "x", body=b"y").status == 200  # and the connection stays open
        os.kill(emulator.pid, number)
        assert process.wait(10) == 0
        oss.close()
    with Storage(tmp_path) as storage:
        assert storage.bucket("test-bucket").get(b"x").size == 1


def test_it_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        process = emulator._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_restart_keeps_the_port(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        port = emulator.port
        emulator.restart()
        assert emulator.port == port
        oss = client(emulator)
        assert oss.call("GET").status == 200
        oss.close()


def test_the_request_log_has_a_line_before_the_reply_ends(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        oss = client(emulator)
        oss.call("PUT", "a/ü", body=b"x" * 1_000)
        assert len(emulator.requests()) == 1
        oss.call("GET", "a/ü", headers={"Range": "bytes=10-19"})
        oss.call("HEAD", "a/ü", {"objectMeta": ""})
        oss.call("GET", "missing")
        oss.call("GET", query={"list-type": "2", "prefix": "a/"})
        put, get, meta, missing, listing = emulator.requests()
        assert (put["method"], put["bucket"], put["key"]) == ("PUT", emulator.bucket, "a/ü")
        assert (put["status"], put["received"]) == (200, 1_000)
        assert (get["range"], get["status"], get["bytes"]) == ("bytes=10-19", 206, 10)
        assert (meta["method"], meta["sub"], meta["bytes"]) == ("HEAD", "objectMeta", 0)
        assert missing["status"] == 404
        assert (listing["sub"], listing["query"]["prefix"]) == ("list-type", "a/")
        assert all(record["seconds"] >= 0 for record in emulator.requests())
        emulator.clear_requests()
        assert emulator.requests() == []
        oss.call("GET", "a/ü")
        assert [record["bytes"] for record in emulator.requests()] == [1_000]
        oss.close()


def test_the_request_log_has_a_line_for_a_client_that_left(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        oss = client(emulator)
        oss.call("PUT", "big", body=bytes(32 << 20))
        emulator.clear_requests()
        with oss.begin("PUT", "half", headers={"Content-Length": "1000000"}) as connection:
            connection.sendall(b"x" * 1_000)
        with oss.begin("GET", "big") as connection:
            assert connection.recv(1) == b"H"
        deadline = time.monotonic() + 10
        while len(emulator.requests()) < 2:
            assert time.monotonic() < deadline
        by_method = {record["method"]: record for record in emulator.requests()}
        put, get = by_method["PUT"], by_method["GET"]
        assert (put["key"], put["status"], put["received"]) == ("half", 499, 1_000)
        assert get["status"] == 200
        assert 0 < get["bytes"] < 32 << 20
        assert oss.call("HEAD", "half").status == 404
        oss.close()


def test_latency_is_added_to_every_request(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path, latency_ms=50) as emulator:
        oss = client(emulator)
        started = time.monotonic()
        for _ in range(4):
            oss.call("HEAD", "x")
        assert time.monotonic() - started >= 0.2
        oss.close()


def test_bandwidth_holds_for_each_connection_by_itself(tmp_path: Path) -> None:
    """10 MB/s: 2 MB take 0.2 s each way, and four connections at once no longer than one."""
    data = bytes(2_000_000)
    with EmulatorProcess(tmp_path, bandwidth_mb=10) as emulator:
        clients = [client(emulator) for _ in range(4)]
        started = time.monotonic()
        clients[0].call("PUT", "paced", body=data)
        assert time.monotonic() - started >= 0.15
        seconds: list[float] = []

        def fetch(oss: RawClient) -> None:
            begun = time.monotonic()
            assert oss.call("GET", "paced").body == data
            seconds.append(time.monotonic() - begun)

        started = time.monotonic()
        threads = [threading.Thread(target=fetch, args=(oss,)) for oss in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert min(seconds) >= 0.15
        assert time.monotonic() - started < sum(seconds) / 2
        for oss in clients:
            oss.close()


def test_the_secret_given_by_the_environment_is_not_in_the_command_line(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        assert KEY_SECRET.encode() not in Path(f"/proc/{emulator.pid}/cmdline").read_bytes()


def test_only_loopback_goes_without_a_warning() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.1.1", "example.com"))


def test_a_client_that_leaves_in_the_middle_harms_nobody(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path) as emulator:
        oss = client(emulator)
        oss.call("PUT", "big", body=bytes(32 << 20))
        for _ in range(3):
            leaver = client(emulator)
            headers = leaver.sign("GET", "big")
            leaver._connection.request("GET", f"/{emulator.bucket}/big", headers=headers)
            leaver._connection.getresponse().read(1)
            leaver.close()
        assert oss.call("GET", "big").body == bytes(32 << 20)
        with oss.begin("PUT", "half", headers={"Content-Length": "1000000"}) as connection:
            connection.sendall(b"x" * 1000)
        assert oss.call("HEAD", "half").status == 404
        oss.close()


def test_an_object_of_more_parts_than_files_may_be_open_is_read_by_many_at_once(
    tmp_path: Path,
) -> None:
    block = os.urandom(100 * 1024)
    with EmulatorProcess(tmp_path, open_files=64) as emulator:
        oss = client(emulator)
        upload = oss.call("POST", "many", {"uploads": ""}).one("UploadId")
        for number in range(1, 151):
            query = {"uploadId": upload, "partNumber": str(number)}
            assert oss.call("PUT", "many", query, body=block).status == 200
        done = oss.call("POST", "many", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
        assert done.status == 200
        readers = [client(emulator) for _ in range(8)]
        replies = []
        for reader in readers:
            headers = reader.sign("GET", "many")
            reader._connection.request("GET", f"/{emulator.bucket}/many", headers=headers)
            replies.append(reader._connection.getresponse())
        assert oss.call("GET", "many").body == block * 150
        assert [reply.read() == block * 150 for reply in replies] == [True] * 8
        for reader in [oss, *readers]:
            reader.close()


def test_fast_etags_are_no_md5_and_content_md5_is_checked_all_the_same(tmp_path: Path) -> None:
    with EmulatorProcess(tmp_path, fast_etags=True) as emulator:
        oss = client(emulator)
        first = oss.call("PUT", "x", body=b"one").headers["etag"]
        assert first.endswith('-0"')
        assert oss.call("PUT", "x", body=b"two").headers["etag"] != first
        wrong = {"Content-MD5": "bm90IG9mIHRoaXMgYm9keQ=="}
        assert oss.call("PUT", "x", headers=wrong, body=b"three").code == "InvalidDigest"
        upload = oss.call("POST", "x", {"uploads": ""}).one("UploadId")
        oss.call("PUT", "x", {"uploadId": upload, "partNumber": "1"}, body=b"four")
        done = oss.call("POST", "x", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
        assert done.status == 200
        assert "content-md5" not in oss.call("HEAD", "x").headers
        assert oss.call("GET", "x").body == b"four"
        oss.close()
