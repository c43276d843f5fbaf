"""Keys in JSON: from a file, from a program, from the metadata service of an instance."""

from __future__ import annotations

import errno
import http.server
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ossfs.credentials import Credentials, KeySettings, Source, document, sources
from ossfs.credentials.files import CredentialsFile
from ossfs.credentials.process import LIMIT, Process, words_of
from ossfs.credentials.ram_role import RamRole, address_of
from ossfs.runtime.failure import ExitStatus, UserError

FULL = {
    "AccessKeyId": "STS.id",
    "AccessKeySecret": "hunter2",
    "SecurityToken": "hunter2-token",
    "Expiration": "2026-11-26T21:00:00Z",
}
KEYS = Credentials("STS.id", "hunter2", "hunter2-token", 1795726800.0)


def refusal(source: Source) -> str:
    with pytest.raises(UserError) as refused:
        source.fetch()
    assert refused.value.status is ExitStatus.CREDENTIALS
    assert "hunter2" not in refused.value.message
    return refused.value.message


# The document


def test_all_fields_are_read_and_the_last_two_may_be_missing() -> None:
    assert document.read(json.dumps(FULL), "x") == KEYS
    short = {"AccessKeyId": "id", "AccessKeySecret": " secret\n"}
    assert document.read(json.dumps(short), "x") == Credentials("id", "secret")


@pytest.mark.parametrize(
    "moment", ["2026-11-26T21:00:00Z", "2026-11-26T21:00:00", "2026-11-27T05:00:00+08:00"]
)
def test_an_expiration_is_utc_unless_it_says_otherwise(moment: str) -> None:
    assert document.read(json.dumps(FULL | {"Expiration": moment}), "x").expires == KEYS.expires


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("hunter2", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('["hunter2"]', "no JSON object"),
        ('{"AccessKeyId": "id"}', "lacks AccessKeyId or AccessKeySecret"),
        ('{"AccessKeyId": "id", "AccessKeySecret": 5}', "no text"),
        ('{"Code": "Failed", "AccessKeyId": "id", "AccessKeySecret": "hunter2"}', "a failure"),
        ('{"AccessKeyId": "id", "AccessKeySecret": "hunter2\\n3"}', "characters that no key"),
        (json.dumps(FULL | {"Expiration": "hunter2"}), "no time such as"),
        (json.dumps(FULL | {"Expiration": 17}), "no time such as"),
    ],
)
def test_what_gives_no_keys_says_why_and_repeats_nothing(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        document.read(text, "x")
    assert refused.value.message.startswith("x is refused: ")
    assert "hunter2" not in refused.value.message


# A file


def test_a_file_holds_them_under_the_rules_of_a_passwd_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(FULL))
    path.chmod(0o600)
    source = CredentialsFile(str(path))
    assert source.fetch() == KEYS
    path.chmod(0o644)
    assert "run chmod 600" in refusal(source)
    path.unlink()
    message = refusal(source)
    assert message.startswith("credentials_file")
    assert "No such file" in message


# A program


def program(tmp_path: Path, body: str) -> str:
    """Return the path of a program of the test's own."""
    path = tmp_path / "give keys"
    path.write_text(f"#!{sys.executable} -IS\nimport os, sys, time\n{body}\n")
    path.chmod(0o700)
    return f"'{path}'"


def test_a_program_prints_them_and_gets_its_words_unexpanded(tmp_path: Path) -> None:
    body = f"assert sys.argv[1:] == ['a b', '*']; print({json.dumps(json.dumps(FULL))})"
    assert Process(program(tmp_path, body) + " 'a b' *").fetch() == KEYS


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("print('hunter2', file=sys.stderr); sys.exit(3)", "ended with status 3"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("print('hunter2')", "no JSON"),
        (f"sys.stdout.write('x' * {LIMIT + 1})", f"more than {LIMIT} bytes"),
    ],
)
def test_a_program_that_gives_none_says_why(tmp_path: Path, body: str, reason: str) -> None:
    assert reason in refusal(Process(program(tmp_path, body)))


@pytest.mark.parametrize(
    "body",
    [
        "time.sleep(60)",
        "os.close(1); time.sleep(60)",
        "os.fork() or time.sleep(60)",  # its child holds the pipe
    ],
)
def test_a_program_has_its_time_and_no_more_and_neither_have_its_children(
    tmp_path: Path, body: str
) -> None:
    begun = time.monotonic()
    message = refusal(Process(program(tmp_path, body), seconds=0.5))
    assert "takes longer than 0.5 s" in message
    assert time.monotonic() - begun < 30


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_program_that_may_not_be_killed_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = []

    def refuse(group: int, number: int) -> None:  # as for what sudo runs
        groups.append(group)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    kill = os.killpg
    monkeypatch.setattr(os, "killpg", refuse)
    begun = time.monotonic()
    try:
        message = refusal(Process(program(tmp_path, "time.sleep(60)"), seconds=0.2))
    finally:
        kill(groups[0], signal.SIGKILL)
    assert "takes longer than 0.2 s" in message
    assert time.monotonic() - begun < 30


def test_a_program_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such program"):
        Process(f"{tmp_path}/none").check()
    (tmp_path / "file").touch(mode=0o600)
    with pytest.raises(UserError, match="cannot be run"):
        Process(f"{tmp_path}/file").check()
    (tmp_path / "file").chmod(0o700)
    assert "does not start" in refusal(Process(f"{tmp_path}/file"))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "absolute path"),
        ("helper --x", "absolute path"),
        ("/bin/helper $HOME", "no shell"),
        ("/bin/helper `id`", "no shell"),
        ("/bin/helper 'x", "quotation mark"),
    ],
)
def test_a_command_that_cannot_be_one_says_why(command: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        words_of(command)


# The metadata service


class Service(http.server.BaseHTTPRequestHandler):
    """Answers as the metadata service does; what it does not like it says with a status."""

    tokens = True
    reply = json.dumps(FULL | {"Code": "Success"})

    def do_PUT(self) -> None:
        ttl = self.headers.get("X-aliyun-ecs-metadata-token-ttl-seconds")
        good = self.path == "/latest/api/token" and ttl == "180" and self.tokens
        self._answer(200 if good else 404, "the-token")

    def do_GET(self) -> None:
        if self.tokens and self.headers.get("X-aliyun-ecs-metadata-token") != "the-token":
            self._answer(403, "")
        elif self.path == "/latest/meta-data/ram/security-credentials/role":
            self._answer(200, self.reply)
        else:
            self._answer(404, "")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_args: object) -> None:
        pass


@contextmanager
def serving(handler: type[Service]) -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/latest/meta-data/ram/security-credentials"
        finally:
            server.shutdown()
            thread.join()


def test_a_role_gives_keys_with_a_token_and_without_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # none leads there

    class Former(Service):
        tokens = False

    for handler in (Service, Former):
        with serving(handler) as base:
            assert RamRole(f"{base}/role").fetch() == KEYS


def test_a_role_that_is_not_there_and_a_service_that_is_not(tmp_path: Path) -> None:
    with serving(Service) as base:
        assert "no such role here" in refusal(RamRole(f"{base}/other"))
    assert "does not answer" in refusal(RamRole(f"{base}/role"))

    class Long(Service):
        reply = "x" * (LIMIT + 1)

    with serving(Long) as base:
        assert "too long" in refusal(RamRole(f"{base}/role"))


def test_a_service_has_its_time_and_no_more_however_often_it_says_something() -> None:
    class Dripping(Service):
        def _answer(self, status: int, text: str) -> None:
            super()._answer(status, "")
            with suppress(OSError):  # whoever asked has gone
                for _ in range(200):
                    self.wfile.write(b"x")
                    time.sleep(0.05)

        def send_header(self, keyword: str, value: str) -> None:
            super().send_header(keyword, "200" if keyword == "Content-Length" else value)

    with serving(Dripping) as base:
        begun = time.monotonic()
        assert "does not answer" in refusal(RamRole(f"{base}/role", seconds=0.3))
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "role", ["a role", "", "ftp://h/x", "http:///x", "http://h", "http://a:b@h/x"]
)
def test_what_is_neither_a_role_nor_an_address_is_refused(role: str) -> None:
    with pytest.raises(ValueError, match="neither the name of a role"):
        address_of(role)


def test_a_name_is_asked_of_the_link_local_address() -> None:
    base = "http://100.100.100.200/latest/meta-data/ram/security-credentials/"
    assert address_of("my-role.1") == base + "my-role.1"


# Which one


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (KeySettings(ram_role="r", credential_process="/bin/x", key_secret="s"), "ram_role"),
        (KeySettings(credential_process="/bin/x", credentials_file="/f"), "credential_process"),
        (KeySettings(credentials_file="/f", passwd_file="/p", key_id="i"), "credentials_file"),
        (KeySettings(passwd_file="/p", key_id="i"), "passwd_file"),
        (KeySettings(passwd_file="/p", key_id="i", key_secret="s"), "given"),
    ],
)
def test_a_source_can_be_made_again_of_what_it_tells(settings: KeySettings, kind: str) -> None:
    environ = {"OSS_ACCESS_KEY_ID": "env-id", "OSS_ACCESS_KEY_SECRET": "env-secret"}
    source = sources.find(settings, "bucket", environ)
    told = json.loads(json.dumps(dict(source.told())))
    assert told["kind"] == kind
    again = sources.made(told)
    assert type(again) is type(source)
    assert again.told() == source.told()
