"""Where keys come from, and which are refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ossfs.credentials import Credentials, KeySettings
from ossfs.credentials.files import PasswdFile
from ossfs.credentials.sources import find
from ossfs.runtime.failure import ExitStatus, UserError

ENVIRON = {"OSS_ACCESS_KEY_ID": "env-id", "OSS_ACCESS_KEY_SECRET": "env-secret"}


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def load(path: str, bucket: str) -> Credentials:
    return PasswdFile(path, bucket).fetch()


def refusal(path: str, bucket: str = "bucket") -> str:
    with pytest.raises(UserError) as refused:
        load(path, bucket)
    assert refused.value.status is ExitStatus.CREDENTIALS
    assert "hunter2" not in refused.value.message
    return refused.value.message


def test_the_environment_gives_keys_and_token() -> None:
    keys = find(KeySettings(), "bucket", ENVIRON | {"OSS_SESSION_TOKEN": "tok"}).fetch()
    assert (keys.key_id, keys.key_secret, keys.token) == ("env-id", "env-secret", "tok")


def test_options_win_over_the_environment_and_leave_its_token_alone() -> None:
    settings = KeySettings(key_id="opt-id", key_secret="opt-secret")
    keys = find(settings, "bucket", ENVIRON | {"OSS_SESSION_TOKEN": "tok"}).fetch()
    assert (keys.key_id, keys.key_secret, keys.token) == ("opt-id", "opt-secret", None)


def test_temporary_keys_given_as_options_take_the_token_of_the_environment() -> None:
    settings = KeySettings(key_id="STS.abc", key_secret="opt-secret")
    assert find(settings, "bucket", {"OSS_SESSION_TOKEN": "tok"}).fetch().token == "tok"


def test_an_id_as_option_goes_with_a_secret_from_the_environment() -> None:
    keys = find(KeySettings(key_id="opt-id"), "bucket", ENVIRON).fetch()
    assert (keys.key_id, keys.key_secret) == ("opt-id", "env-secret")


def test_a_passwd_file_wins_over_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path / "passwd", "file-id:file-secret\n")
    assert find(KeySettings(passwd_file=path), "bucket", ENVIRON).fetch().key_id == "file-id"


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        ({}, "no credentials"),
        ({"OSS_ACCESS_KEY_ID": "a"}, "secret is missing"),
        ({"OSS_ACCESS_KEY_SECRET": "a"}, "ID is missing"),
        ({"OSS_ACCESS_KEY_ID": " ", "OSS_ACCESS_KEY_SECRET": ""}, "no credentials"),
    ],
)
def test_missing_keys_are_named_with_the_remedy(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(UserError, match=missing) as refused:
        find(KeySettings(), "bucket", environ)
    assert refused.value.status is ExitStatus.CREDENTIALS
    assert "passwd_file" in refused.value.message


def test_keys_no_header_can_carry_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="characters that no key has"):
        find(KeySettings(), "bucket", {"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b\nc"})
    for token in ("tok\r\nX-Injected: y", "tök"):
        with pytest.raises(UserError, match="characters that no key has"):
            find(KeySettings(), "bucket", ENVIRON | {"OSS_SESSION_TOKEN": token})


def test_a_line_for_the_bucket_wins_over_one_for_all(tmp_path: Path) -> None:
    path = write(tmp_path / "p", "# keys\n\nany:one\nbucket:mine:two\nother:theirs:three\n")
    assert load(path, "bucket").key_id == "mine"
    assert load(path, "third").key_id == "any"


def test_temporary_keys_stand_in_a_line_of_four_fields(tmp_path: Path) -> None:
    assert load(write(tmp_path / "p", "bucket:STS.id:secret:tok\n"), "bucket").token == "tok"


@pytest.mark.parametrize(
    "names",
    [
        ("accessKeyId", "accessKeySecret"),
        ("AWSAccessKeyId", "AWSSecretKey"),
        ("oss_access_key_id", "oss_access_key_secret"),
    ],
)
def test_names_and_values_are_understood(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write(tmp_path / "p", f"{names[0]} = an-id\n{names[1]}=s=cret=\n")
    keys = load(path, "bucket")
    assert (keys.key_id, keys.key_secret) == ("an-id", "s=cret=")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_a_file_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    message = refusal(write(tmp_path / "p", "id:hunter2\n", mode))
    assert f"{mode:04o}" in message
    assert "chmod 600" in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no keys for bucket"),
        ("other:id:hunter2\n", 'no keys for bucket "bucket"'),
        ("hunter2\n", "line 1 is neither"),
        ("a:b:c:d:hunter2\n", "line 1 is neither"),
        ("id:\n", "lacks the ID or the secret"),
        ("id:hunter2\nid2:hunter2\n", "line 2 gives keys for any bucket a second time"),
        ("accessKeyId=only\n", "lacks the ID or the secret"),
        ("ïd:hunter2\n", "characters that no key has"),
        ("bucket:id:hunter2:tök\n", "characters that no key has"),
        ("bucket:id:hunter2:t\x00k\n", "characters that no key has"),
        ("accessKeyId=a\naccessKeySecret=hunter2\nsecurityToken=t\x7fk", "characters that no key"),
    ],
)
def test_a_file_that_gives_no_keys_says_why(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(write(tmp_path / "p", text))


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "none"))
    assert "directory" in refusal(str(tmp_path)).lower()


def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p", 0o600)
    assert "no regular file" in refusal(str(tmp_path / "p"))


def test_a_symbolic_link_is_as_good_as_what_it_names(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(write(tmp_path / "p", "id:secret\n"))
    assert load(str(link), "bucket").key_id == "id"
    (tmp_path / "p").chmod(0o644)
    assert "chmod 600" in refusal(str(link))


@pytest.mark.parametrize(("owner", "good"), [(0, True), (1234, True), (65_534, False)])
def test_a_file_belongs_to_root_or_to_the_user_who_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, good: bool
) -> None:
    path = write(tmp_path / "p", "id:hunter2\n")
    really = os.fstat

    def owned(fd: int) -> os.stat_result:
        fields = list(really(fd))
        fields[stat.ST_UID] = owner
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", owned)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    if good:
        assert load(path, "bucket").key_id == "id"
    else:
        assert "another user (uid 65534)" in refusal(path)


def test_the_names_of_s3s_tools_are_looked_at_for_s3_alone() -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
    }
    assert find(KeySettings(), "b", environ, "s3").fetch() == Credentials("id", "secret", "token")
    with pytest.raises(UserError):
        find(KeySettings(), "b", environ)
    ours = environ | {"OSS_ACCESS_KEY_ID": "our id", "OSS_ACCESS_KEY_SECRET": "our secret"}
    assert find(KeySettings(), "b", ours, "s3").fetch() == Credentials("our id", "our secret")
