"""SIGHUP: what changes while mounted, what cannot, and what a mistake leaves as it was."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.config import layers, pai, validate
from ossfs.config.again import Again
from ossfs.config.arguments import scan
from ossfs.config.option import Dialect
from ossfs.credentials import sources
from tests.cli.command import Ossfs, serving_processes
from tests.support.mount import wait_until

HOST = validate.Host(uid=0, gid=0, user_allow_other=True)


def hang_up(ossfs: Ossfs) -> str:
    """Have the options read again; return what the log says of it."""
    (pid,) = serving_processes(ossfs.point)
    before = len(ossfs.log)
    os.kill(pid, signal.SIGHUP)
    wait_until(lambda: "SIGHUP: " in ossfs.log[before:])
    return ossfs.log[before:]


def test_what_may_change_does_and_what_cannot_is_named(ossfs: Ossfs) -> None:
    conf = ossfs.directory / "my.conf"
    conf.write_text("attr_timeout=7200\nro\n")
    reply = ossfs.mount("-c", "my.conf", "-o", "oss_request_timeout_ms=50000")
    assert reply.status == 0, reply
    assert os.stat(ossfs.point / "dir" / "file.txt").st_size == 6
    conf.write_text("attr_timeout=0\nlog_level=debug\noss_request_timeout_ms=9000\nuid=5\n")
    told = hang_up(ossfs)
    wait_until(lambda: "options read again" in ossfs.log)
    told = ossfs.log
    assert "options read again: attr_timeout=0.0, log_level=debug\n" in told
    assert "cannot change while mounted: uid, ro;" in told
    # The kernel was promised the old time for what it has; what it asks about now is not kept.
    bucket = ossfs.emulator.oss2_bucket()
    bucket.put_object("dir/new.txt", b"1")
    assert os.stat(ossfs.point / "dir" / "new.txt").st_size == 1
    bucket.put_object("dir/new.txt", b"22")
    assert os.stat(ossfs.point / "dir" / "new.txt").st_size == 2
    bucket.delete_object("dir/new.txt")


def test_keys_of_the_file_are_exchanged_with_it(ossfs: Ossfs) -> None:
    conf = ossfs.directory / "my.conf"

    def write(secret: str) -> None:
        conf.write_text(
            f"oss_access_key_id={ossfs.emulator.key_id}\noss_access_key_secret={secret}\n"
            "attr_timeout=0\ntemp_dir=stage\n"
        )
        conf.chmod(0o600)

    (ossfs.directory / "stage").mkdir()
    write(ossfs.emulator.key_secret)
    without = {"OSS_ACCESS_KEY_ID": None, "OSS_ACCESS_KEY_SECRET": None}
    assert ossfs.mount("-c", "my.conf", **without).status == 0
    assert os.stat(ossfs.point / "dir" / "file.txt").st_size == 6
    write("a-secret-that-is-wrong")
    assert "options read again: nothing changes" in hang_up(ossfs)
    assert "cannot change" not in ossfs.log
    with pytest.raises(PermissionError):
        os.stat(ossfs.point / "dir" / "file.txt")
    write(ossfs.emulator.key_secret)
    hang_up(ossfs)
    assert os.stat(ossfs.point / "dir" / "file.txt").st_size == 6
    passwd = ossfs.directory / "passwd"
    passwd.write_text(f"{ossfs.emulator.key_id}:another-that-is-wrong\n")
    passwd.chmod(0o600)
    conf.write_text(f"passwd_file={passwd}\nattr_timeout=0\ntemp_dir=stage\n")
    hang_up(ossfs)
    with pytest.raises(PermissionError):
        os.stat(ossfs.point / "dir" / "file.txt")
    assert "is-wrong" not in ossfs.log


def test_a_mistake_in_the_file_changes_nothing(ossfs: Ossfs) -> None:
    conf = ossfs.directory / "my.conf"
    conf.write_text("attr_timeout=5\n")
    assert ossfs.mount("-c", str(conf)).status == 0
    conf.write_text("atr_timeout=5\n")
    assert "did you mean attr_timeout?; the options stay as they are" in hang_up(ossfs)
    conf.unlink()
    assert "the options stay as they are" in hang_up(ossfs)
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_without_a_file_the_keys_alone_are_fetched_afresh(ossfs: Ossfs) -> None:
    keys = ossfs.directory / "keys.json"

    def write(secret: str) -> None:
        fresh = ossfs.directory / "fresh.json"
        fresh.write_text(
            json.dumps({"AccessKeyId": ossfs.emulator.key_id, "AccessKeySecret": secret})
        )
        fresh.chmod(0o600)
        fresh.rename(keys)

    write(ossfs.emulator.key_secret)
    assert ossfs.mount("-o", f"credentials_file={keys},attr_timeout=0").status == 0
    write("another-secret-that-is-wrong")
    assert "no file of options to read again; the keys were fetched afresh" in hang_up(ossfs)
    with pytest.raises(PermissionError):
        os.stat(ossfs.point / "dir" / "file.txt")
    write(ossfs.emulator.key_secret)
    hang_up(ossfs)
    assert os.stat(ossfs.point / "dir" / "file.txt").st_size == 6
    assert "another-secret" not in ossfs.log


def test_in_the_foreground_of_no_terminal_a_hangup_ends_nothing(ossfs: Ossfs) -> None:
    with ossfs.start(*ossfs.usual, "-f") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("ossfs: mounted"):
                break
        process.send_signal(signal.SIGHUP)
        for line in process.stderr:
            if "the keys were fetched afresh" in line:
                break
        assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
        process.terminate()
        process.communicate(timeout=15)
    assert process.returncode == 0


def test_nothing_secret_is_kept_and_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = scan(
        ["oss://b", "m", "-c", "f", "--oss_access_key_secret=hunter2", "--temp_dir=t", "--ro"]
    )
    environ = {
        "OSS_ACCESS_KEY_SECRET": "hunter3",
        "OSS_REGION": "cn-hangzhou",
        "HOME": "/root",
    }
    kept = Again.of(asked, environ, "/real/m", keyed=False)
    assert kept == Again(
        positional=("oss://b", "/real/m"),
        settings=(("conf", f"{tmp_path}/f"), ("temp_dir", f"{tmp_path}/t"), ("ro", None)),
        environ={"OSS_REGION": "cn-hangzhou"},
        foreground=False,
        directory=str(tmp_path),
        keyed=False,
    )
    assert kept.reads
    told = (
        '{"fs.oss.accessKeySecret": "hunter2", "fs.oss.retry.count": 3,'
        ' "fs.jindo.args": "-ofs.oss.accessKeySecret=hunter2 -oro"}'
    )
    words = ["oss://b", "m", "--pai", told, "--oss-access-key-secret=hunter2", "--unheard=hunter2"]
    kept = Again.of(scan(words), {}, "/m", keyed=False)
    assert "hunter2" not in repr(kept)
    assert "-oro" in repr(kept)
    lone = Again.of(
        scan(["oss://b", "m", "--pai", '{"fs.oss.accessKeySecret": "hunter2"}']),
        {},
        "/m",
        keyed=False,
    )
    text = dict(lone.settings)["pai"]
    assert pai.read(text or "")[1] is Dialect.JINDOFUSE  # whose defaults are others
    assert "retry" in repr(kept)


@pytest.mark.parametrize("filed", ["", "oss_access_key_id=other\n"])
def test_an_id_beside_the_secret_of_a_file_is_meant_once_more(tmp_path: Path, filed: str) -> None:
    conf = tmp_path / "my.conf"
    conf.write_text(f"{filed}oss_access_key_secret=hunter2\noss_region=cn-hangzhou\n")
    conf.chmod(0o600)
    for more, environ in (["--oss_access_key_id=me"], {}), ([], {"OSS_ACCESS_KEY_ID": "me"}):
        if filed and environ:
            continue  # there the file's own counts
        asked = scan(["oss://buck", "/m", "-c", str(conf), *more])
        found = validate.resolve(asked, environ, HOST, layers.gather(asked.settings))
        again = Again.of(asked, environ, "/m", keyed=found.keys.from_file)
        _, keys = again.read()
        assert keys is not None
        given = sources.find(keys, "buck", again.environ).fetch()
        assert (given.key_id, given.key_secret) == ("me", "hunter2")


def test_keys_in_a_json_that_is_not_read_again_stay(tmp_path: Path) -> None:
    conf = tmp_path / "my.conf"
    conf.write_text("attr_timeout=5\noss_region=cn-hangzhou\n")
    told = '{"fs.ossfs.args": "-ooss_access_key_id=me -ooss_access_key_secret=hunter2"}'
    asked = scan(["oss://buck", "/m", "-c", str(conf), "--pai", told])
    found = validate.resolve(asked, {}, HOST, layers.gather(asked.settings))
    options, keys = Again.of(asked, {}, "/m", keyed=found.keys.from_file).read()
    assert options.attr_timeout == 5
    assert keys is None


def test_a_mount_tells_what_it_has_done(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
    told = json.loads(ossfs("stats", str(ossfs.point), "--json").stdout)
    assert told["bytes_read"] == 6
    made = mounts.mount_at(str(ossfs.point))
    assert made is not None
    (pid,) = mounts.servers_of(made)
    shown = ossfs("stats", "-p", str(pid)).stdout
    assert "bytes_read " in shown
    assert "requests.get_range_into" in shown


def test_a_question_to_nobody_is_one_line(ossfs: Ossfs) -> None:
    assert "is not mounted by ossfs" in ossfs("stats", str(ossfs.point)).complaint
    assert "serves no mount" in ossfs("stats", "-p", str(os.getpid())).complaint
    assert ossfs("stats").status == 2


def test_others_are_told_nothing(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    (pid,) = serving_processes(ossfs.point)
    script = (
        "import os, sys\n"
        "from ossfs.inquiry import ask\n"
        "os.setuid(65534)\n"
        "try: print(ask(int(sys.argv[1])))\n"
        "except OSError as error: print(error.strerror)"
    )
    reply = ossfs.run([ossfs.command()[0], "-c", script, str(pid)])
    assert reply.stdout == "Permission denied\n", reply
