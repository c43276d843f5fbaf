"""What a dead mount left behind goes; what may belong to a living one, and every object, stays."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ossfs.emulator.records import PLAIN, Upload
from ossfs.emulator.storage import Storage
from ossfs.runtime.failure import ExitStatus
from tests.cli.command import Ossfs, Reply
from tests.support import canned
from tests.support.emulator import BUCKET, EmulatorProcess

DAY_S = 24 * 3600
LEFT = {"a/old": 3 * DAY_S, "a/hour": 3660, "ab": 2 * DAY_S, "c\nd": 26 * 3600, "new": 0}
"""Keys of uploads in progress, and how many seconds ago they were begun."""


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Ossfs]:
    """A bucket of its own with the uploads LEFT, and the object a/old beside them."""
    begun = int(time.time())
    with Storage(tmp_path / "store") as storage:
        bucket = storage.bucket(BUCKET, create=True)
        for number, (key, age) in enumerate(LEFT.items()):
            upload = Upload(f"{number:032X}", key.encode(), begun - age, PLAIN, False)
            bucket.index.add_upload(bucket.number, upload)
    secret = "cleanup-secret"
    with EmulatorProcess(tmp_path / "store", key_secret=secret) as emulator:
        emulator.oss2_bucket().put_object("a/old", b"whole")
        yield Ossfs(emulator, tmp_path)


def in_progress(ossfs: Ossfs) -> set[str]:
    listed = ossfs.emulator.oss2_bucket().list_multipart_uploads()
    return {upload.key for upload in listed.upload_list}


def cleanup(ossfs: Ossfs, *words: str, **environment: str | None) -> Reply:
    """Clean up with the very options of a mount."""
    reply = ossfs("cleanup", ossfs.source, "-o", ossfs.options, *words, **environment)
    assert ossfs.emulator.key_secret not in reply.stdout + reply.stderr
    return reply


def refused(reply: Reply, status: ExitStatus, *said: str) -> None:
    assert reply.status == status, reply.stderr
    assert reply.stdout == ""
    for text in said:
        assert text in reply.complaint


def test_old_uploads_go_and_young_ones_stay(left: Ossfs) -> None:
    reply = cleanup(left)
    assert (reply.status, reply.stderr) == (0, "")
    assert in_progress(left) == {"a/hour", "new"}
    lines = reply.stdout.splitlines()
    assert len(lines) == len(LEFT) + 1
    assert "ossfs: aborted a/old, begun 3d 0h ago" in lines
    assert "ossfs: kept a/hour, begun 1h 1m ago" in lines
    assert lines[-1] == "ossfs: aborted 3 of 5 uploads in progress"


def test_a_key_with_a_newline_is_one_line(left: Ossfs) -> None:
    assert r"ossfs: aborted c\nd, begun 1d 2h ago" in cleanup(left).stdout.splitlines()


def test_whole_objects_stay(left: Ossfs) -> None:
    assert cleanup(left, "--older-than", "0").status == 0
    assert left.emulator.oss2_bucket().get_object("a/old").read() == b"whole"


def test_only_what_is_under_the_prefix_goes(left: Ossfs) -> None:
    left.source += "/a"
    reply = cleanup(left)
    assert reply.stdout.splitlines()[-1] == "ossfs: aborted 1 of 2 uploads in progress"
    assert in_progress(left) == {"a/hour", "ab", "c\nd", "new"}


@pytest.mark.parametrize(
    ("age", "rest"),
    [
        ("0", set()),
        ("1h", {"new"}),
        ("30m", {"new"}),
        ("48h", {"a/hour", "c\nd", "new"}),
        ("7d", set(LEFT)),
    ],
)
def test_the_age_is_the_users_choice(left: Ossfs, age: str, rest: set[str]) -> None:
    reply = cleanup(left, f"--older-than={age}")
    assert reply.status == 0
    assert in_progress(left) == rest
    done = len(LEFT) - len(rest)
    assert reply.stdout.splitlines()[-1] == f"ossfs: aborted {done} of 5 uploads in progress"


def test_zero_takes_those_that_are_begun_after_now_by_our_clock(tmp_path: Path) -> None:
    with Storage(tmp_path / "store") as storage:
        bucket = storage.bucket(BUCKET, create=True)
        upload = Upload("0" * 32, b"ahead", int(time.time()) + 600, PLAIN, False)
        bucket.index.add_upload(bucket.number, upload)
    with EmulatorProcess(tmp_path / "store") as emulator:
        ossfs = Ossfs(emulator, tmp_path)
        assert "kept ahead, begun 0s ago" in cleanup(ossfs, "--older-than=1s").stdout
        assert "aborted ahead, begun 0s ago" in cleanup(ossfs, "--older-than=0").stdout
        assert in_progress(ossfs) == set()


def test_a_dry_run_aborts_nothing(left: Ossfs) -> None:
    reply = cleanup(left, "--dry-run")
    assert (reply.status, reply.stderr) == (0, "")
    assert "ossfs: would abort ab, begun 2d 0h ago" in reply.stdout.splitlines()
    assert "ossfs: kept new, begun " in reply.stdout
    assert reply.stdout.splitlines()[-1] == "ossfs: would abort 3 of 5 uploads in progress"
    assert in_progress(left) == set(LEFT)
    assert not [asked for asked in left.emulator.requests() if asked["method"] == "DELETE"]


def test_more_than_a_page_of_uploads_and_more_than_go_at_once(tmp_path: Path) -> None:
    with Storage(tmp_path / "store") as storage:
        bucket = storage.bucket(BUCKET, create=True)
        for number in range(1_100):
            upload = Upload(f"{number:032X}", b"key-%d" % (number // 3), 0, PLAIN, False)
            bucket.index.add_upload(bucket.number, upload)
    with EmulatorProcess(tmp_path / "store") as emulator:
        ossfs = Ossfs(emulator, tmp_path)
        reply = cleanup(ossfs)
        assert reply.stdout.splitlines()[-1] == "ossfs: aborted 1100 of 1100 uploads in progress"
        assert in_progress(ossfs) == set()
        again = cleanup(ossfs)
        assert (again.status, again.stdout) == (0, "ossfs: aborted 0 of 0 uploads in progress\n")


def test_what_is_aborted_cannot_be_completed_any_more(left: Ossfs) -> None:
    bucket = left.emulator.oss2_bucket()
    live = bucket.init_multipart_upload("live").upload_id
    dead = bucket.init_multipart_upload("dead/one").upload_id
    bucket.upload_part("live", live, 1, b"bytes")
    bucket.upload_part("dead/one", dead, 1, b"bytes")
    left.source += "/dead"
    assert cleanup(left, "--older-than=0").status == 0
    assert "dead/one" not in in_progress(left)
    assert [part.part_number for part in bucket.list_parts("live", live).parts] == [1]


def test_a_reader_that_leaves_does_not_stop_it(left: Ossfs) -> None:
    words = ["cleanup", left.source, "-o", left.options]
    reply = left.shell('"$@" >/dev/full', *words)
    assert (reply.status, reply.stderr) == (0, "")
    assert in_progress(left) == {"a/hour", "new"}


def test_a_dry_run_that_cannot_be_shown_is_an_error(left: Ossfs) -> None:
    words = ["cleanup", left.source, "-o", left.options, "--dry-run"]
    reply = left.shell('"$@" >/dev/full', *words)
    assert reply.status == ExitStatus.FAILURE
    assert "No space left on device" in reply.complaint


@pytest.mark.parametrize("age", ["soon", "24", "-1h", "1.5h", ""])
def test_a_bad_age(ossfs: Ossfs, age: str) -> None:
    reply = cleanup(ossfs, f"--older-than={age}")
    refused(reply, ExitStatus.USAGE, f"--older-than={age}: not a duration", "30m, 24h or 7d")


@pytest.mark.parametrize("words", [[], ["oss://bucket", "hunter2"], ["oss://a", "oss://b"]])
def test_one_bucket_is_wanted_and_further_words_are_not_repeated(
    ossfs: Ossfs, words: list[str]
) -> None:
    reply = ossfs("cleanup", *words)
    refused(reply, ExitStatus.USAGE, "usage: ossfs cleanup oss://BUCKET[/PREFIX]")
    assert "hunter2" not in reply.complaint


def test_an_unknown_option(ossfs: Ossfs) -> None:
    refused(cleanup(ossfs, "-o", "oss_region_=x"), ExitStatus.USAGE, "did you mean oss_region?")
    refused(ossfs("cleanup", ossfs.source), ExitStatus.USAGE, "oss_endpoint is missing")


def test_no_such_bucket(ossfs: Ossfs) -> None:
    ossfs.source = "oss://no-such-bucket"
    refused(cleanup(ossfs), ExitStatus.NO_BUCKET, "'no-such-bucket'", "does not exist")


def test_missing_and_wrong_keys(ossfs: Ossfs) -> None:
    reply = cleanup(ossfs, **dict.fromkeys(ossfs.keys))
    refused(reply, ExitStatus.CREDENTIALS, "no credentials", "passwd_file")
    reply = cleanup(ossfs, OSS_ACCESS_KEY_SECRET="wrong")
    refused(reply, ExitStatus.CREDENTIALS, "SignatureDoesNotMatch")


def test_keys_from_a_passwd_file(left: Ossfs, tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text(":".join(left.keys.values()))
    path.chmod(0o600)
    reply = cleanup(left, "-o", f"passwd_file={path}", **dict.fromkeys(left.keys))
    assert (reply.status, reply.stderr) == (0, "")
    path.chmod(0o644)
    refused(cleanup(left, "-o", f"passwd_file={path}"), ExitStatus.CREDENTIALS, "chmod 600")


def test_a_secret_on_the_command_line_is_warned_of_when_all_is_done(left: Ossfs) -> None:
    keys = ",".join(f"{name.lower()}={value}" for name, value in left.keys.items())
    reply = cleanup(left, "-o", keys, **dict.fromkeys(left.keys))
    assert reply.status == 0
    assert reply.complaint.startswith("warning: other users could read the secret")


LISTED = b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
UPLOADS = b"""<ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>false</IsTruncated>
<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>
<Upload><Key>one</Key><UploadId>1</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>
</ListMultipartUploadsResult>"""
DENIED = b"<Error><Code>AccessDenied</Code><Message>You have no right to access</Message></Error>"
ID = "x-oss-request-id: 5A408B4B42BD0241CE407E2B"


@pytest.mark.parametrize("may_list", [False, True])
def test_keys_that_may_only_list_objects_are_told_what_they_lack(
    ossfs: Ossfs, may_list: bool
) -> None:
    def answer(request: bytes) -> bytes:
        asked = request.partition(b"\r\n")[0]
        if b"uploads" in asked and may_list:
            return canned.reply(200, UPLOADS, ID)
        if b"uploads" in asked or asked.startswith(b"DELETE"):
            return canned.reply(403, DENIED, ID)
        return canned.reply(200, LISTED, ID)

    with canned.CannedServer(*[[answer] * 9] * 9) as server:
        reply = cleanup(ossfs, "-o", f"oss_endpoint={server.endpoint}")
    refused(reply, ExitStatus.CREDENTIALS, "AccessDenied", "grant oss:ListMultipartUploads")
    assert ("aborted 0 of 1 uploads before that" in reply.complaint) is may_list


def test_an_endpoint_that_fails_on_the_way(ossfs: Ossfs) -> None:
    def answer(request: bytes) -> bytes:
        if b"uploads" in request.partition(b"\r\n")[0]:
            return canned.reply(503, b"<Error><Code>ServiceUnavailable</Code></Error>", ID)
        return canned.reply(200, LISTED, ID)

    with canned.CannedServer(*[[answer] * 9] * 9) as server:
        reply = cleanup(ossfs, "-o", f"oss_endpoint={server.endpoint},oss_request_timeout_ms=1000")
    refused(reply, ExitStatus.UNREACHABLE, "cannot be reached", server.endpoint)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_while_the_endpoint_is_silent_it_says_nothing(
    ossfs: Ossfs, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        options = f"oss_endpoint=http://127.0.0.1:{mute.getsockname()[1]}"
        with ossfs.start("cleanup", ossfs.source, "-o", options) as process:
            asked, _ = mute.accept()
            with asked:
                process.send_signal(number)
                said = process.communicate(timeout=10)
        assert (process.returncode, said) == (-number, ("", ""))
