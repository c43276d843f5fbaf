"""Configuration files: what a line means, and what is no such file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossfs.config.arguments import Setting, scan
from ossfs.config.file import parse, read
from ossfs.config.layers import Layers, gather, named
from ossfs.config.validate import Host, Resolved, resolve
from ossfs.runtime.failure import ExitStatus, UserError

HOST = Host(uid=0, gid=0, user_allow_other=False)
ENDPOINT = "oss_endpoint=http://127.0.0.1:9\n"


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def resolved(path: str, *words: str, environ: dict[str, str] | None = None) -> Resolved:
    return resolve(scan(["oss://bucket", "/mnt", *words]), environ or {}, HOST, Layers(read(path)))


def refusal(path: str) -> str:
    with pytest.raises(UserError) as refused:
        resolved(path)
    assert refused.value.status is ExitStatus.USAGE
    assert path in refused.value.message
    return refused.value.message


def test_a_line_is_an_option_and_the_rest_changes_nothing() -> None:
    text = "# note\n; note\n[common]\n\n--a=b=c\n  d = e f  \n--ro\nfs.oss.x = 1\n--g=\n"
    assert parse("F", text) == (
        Setting("a", "b=c", "F line 5"),
        Setting("d", "e f", "F line 6"),
        Setting("ro", None, "F line 7"),
        Setting("fs.oss.x", "1", "F line 8"),
        Setting("g", "", "F line 9"),
    )


@pytest.mark.parametrize(
    "words", [["-c", "/f"], ["-c/f"], ["--conf", "/f"], ["--conf=/f"], ["-o", "ro,conf=/f"]]
)
def test_a_file_is_named_in_five_ways(words: list[str]) -> None:
    assert named(scan(["b", "/m", *words]).settings, "conf") == "/f"
    assert scan(["b", "/m", *words]).positional == ("b", "/m")


def test_one_file_a_mount_and_it_has_a_name() -> None:
    assert named(scan(["b", "/m"]).settings, "conf") == ""
    with pytest.raises(UserError, match="given twice"):
        named(scan(["-c", "/f", "-o", "conf=/g"]).settings, "conf")
    for words in (["-c"], ["--conf"], ["--conf="], ["-o", "conf"]):
        with pytest.raises(UserError, match="needs a value"):
            named(scan(words).settings, "conf")


def test_a_file_may_lie_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "f", "--ro\n")
    found = gather(scan(["-c", "~/f"]).settings).file
    assert found is not None
    assert [setting.name for setting in found.settings] == ["ro"]


def test_the_command_line_and_the_environment_win_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f", ENDPOINT + "--oss_region=cn-beijing\n--attr_timeout=5\n--noexec\n")
    found = resolved(path)
    assert found.options.oss_region == "cn-beijing"
    assert found.options.attr_timeout == 5
    assert found.options.kernel_words == ("noexec",)
    assert found.origins["oss_region"] == f"{path} line 2"
    found = resolved(path, "-o", "attr_timeout=7", environ={"OSS_REGION": "cn-hangzhou"})
    assert (found.options.oss_region, found.options.attr_timeout) == ("cn-hangzhou", 7)
    assert found.origins["oss_region"] == "OSS_REGION"
    assert found.origins["attr_timeout"] == "command line"
    assert "negative_timeout" not in found.origins


def test_keys_of_the_file_give_way_to_those_of_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path / "f", ENDPOINT + "oss_access_key_id=id\noss_access_key_secret=hunter2\n")
    keys = resolved(path).keys
    assert (keys.key_id, keys.key_secret) == ("id", "hunter2")
    environ = {"OSS_ACCESS_KEY_ID": "env-id", "OSS_ACCESS_KEY_SECRET": "env-secret"}
    keys = resolved(path, environ=environ).keys
    assert (keys.key_id, keys.key_secret) == ("", "")
    keys = resolved(path, "-o", "oss_access_key_id=typed").keys
    assert (keys.key_id, keys.key_secret) == ("typed", "hunter2")


def test_a_secret_in_a_file_that_others_may_read_is_warned_of(tmp_path: Path) -> None:
    text = ENDPOINT + "oss_access_key_secret=hunter2\n"
    assert resolved(write(tmp_path / "f", text)).notes == ()
    (note,) = resolved(write(tmp_path / "f", text, 0o644)).notes
    assert "chmod 600" in note
    assert "hunter2" not in note
    assert resolved(write(tmp_path / "f", ENDPOINT, 0o644)).notes == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("atr_timeout=3", 'line 2: unknown option "atr_timeout"; did you mean attr_timeout?'),
        ("attr_timeout", "line 2: attr_timeout needs a value"),
        ("attr_timeout=x", "line 2)=x: not a number of seconds; legal: 0 to 31536000"),
        ("conf=/other", "line 2 names another one"),
        ("oss_region=Cn_", "line 2)=Cn_: not a region"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(write(tmp_path / "f", ENDPOINT + text + "\n"))


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "none"))
    assert "a directory" in refusal(str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    assert "no regular file" in refusal(str(tmp_path / "fifo"))
    (tmp_path / "f").write_bytes(b"\xff")
    assert "not text" in refusal(str(tmp_path / "f"))
    (tmp_path / "f").write_bytes(b"#" * 2**21)
    assert "longer than 1048576 bytes" in refusal(str(tmp_path / "f"))
