"""The log file, and what never gets into it."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ossfs.runtime import logs
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.logs import (
    LineFormatter,
    SharedRotatingFile,
    configure,
    prepare_directory,
)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    made = logging.Logger("ossfs.test")
    yield made
    for handler in made.handlers:
        handler.close()


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    info = sys.exc_info() if error else None
    return logging.LogRecord("ossfs.test", logging.INFO, __file__, 1, message, args, info)


def test_a_line_has_time_level_process_and_source() -> None:
    line = LineFormatter().format(record("hello %s", "there"))
    stamp, rest = line.split(" ", 1)
    assert stamp[10] == "T"
    assert stamp.endswith("Z")
    assert rest == f"INFO {os.getpid()} ossfs.test hello there"


def test_the_systems_log_gets_lines_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "log"))
        system.settimeout(5)
        monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "log"))
        kept = logging.getLogger().handlers[:]
        for handler in kept:
            logging.getLogger().removeHandler(handler)
        try:
            configure(directory="syslog", secrets=lambda: ["hunter2"])
            logging.getLogger("ossfs.test").info("a line with hunter2")
        finally:
            for handler in logging.getLogger().handlers[:]:
                logging.getLogger().removeHandler(handler)
                handler.close()
            for handler in kept:
                logging.getLogger().addHandler(handler)
        told = system.recv(1000).decode()
    assert "ossfs: " in told
    assert "ossfs.test a line with <hidden>" in told


def test_a_machine_without_a_system_log_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SYSLOG_SOCKET", "/no/such/socket")
    kept = logging.getLogger().handlers[:]
    with pytest.raises(UserError, match="no system log at /no/such/socket"):
        configure(directory="syslog")
    assert logging.getLogger().handlers == kept


def test_a_key_with_newlines_cannot_forge_a_line() -> None:
    line = LineFormatter().format(record("key %s", "a\n2026-01-01 ERROR forged\x1b[31m"))
    assert line.count("\n") == 0
    assert "\\n2026" in line
    assert "\x1b" not in line


def test_secrets_are_hidden_in_messages_and_in_tracebacks() -> None:
    formatter = LineFormatter(lambda: ["hunter2", "hunter2-secret"])
    try:
        raise ValueError("signing with hunter2-secret failed")
    except ValueError:
        text = formatter.format(record("failed for %s", "hunter2", error=True))
    assert "hunter2" not in text
    assert "signing with <hidden> failed" in text
    assert "Traceback" in text


def test_secrets_that_became_known_later_are_hidden_too() -> None:
    secrets = ["hunter2"]
    formatter = LineFormatter(lambda: secrets)
    assert "hunter3" in formatter.format(record("hunter3"))
    secrets.append("hunter3")
    assert "hunter" not in formatter.format(record("hunter2 hunter3"))


def test_a_traceback_cannot_forge_a_line() -> None:
    forged = "2026-01-01T00:00:00.000Z ERROR 1 ossfs forged"
    try:
        raise ValueError(f"one\n{forged}\r{forged}\x1b[31m\u2028{forged}")
    except ValueError:
        text = LineFormatter().format(record("failed", error=True))
    first, *rest = text.splitlines()
    assert first.endswith("failed")
    assert all(line.startswith("  ") for line in rest)
    assert any(line.startswith(f"  {forged}\\r") for line in rest)
    assert "\x1b" not in text


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "log"
    prepare_directory(str(directory))
    SharedRotatingFile(str(directory)).close()
    assert (directory / "ossfs.log").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_full_file_is_rotated_and_only_so_many_are_kept(
    tmp_path: Path, logger: logging.Logger
) -> None:
    logger.addHandler(SharedRotatingFile(str(tmp_path), max_bytes=100, files=3))
    for number in range(30):
        logger.info("line %02d %s", number, "x" * 30)
    names = sorted(name for name in os.listdir(tmp_path) if not name.startswith("."))
    assert names == ["ossfs.log", "ossfs.log.1", "ossfs.log.2"]
    assert all((tmp_path / name).stat().st_size <= 100 for name in names)
    assert "line 29" in (tmp_path / "ossfs.log").read_text()


def test_a_systems_log_that_does_not_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "log"))
        monkeypatch.setattr(logs, "SYSLOG_SOCKET", str(tmp_path / "log"))
        handler = logs._system_log()
        filling = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with filling, suppress(BlockingIOError):
            filling.setblocking(False)
            while True:
                filling.sendto(b"x", str(tmp_path / "log"))
        telling = threading.Thread(target=handler.emit, args=(record("hello"),), daemon=True)
        telling.start()
        telling.join(10)
        held_up = telling.is_alive()
    telling.join(10)
    handler.close()
    assert not held_up


def test_a_single_file_begins_anew_when_it_is_full(tmp_path: Path) -> None:
    both = [SharedRotatingFile(str(tmp_path), max_bytes=100, files=1) for _ in range(2)]
    for number in range(30):
        both[number % 2].emit(record("line %02d", number))
    for handler in both:
        handler.close()
    assert (tmp_path / "ossfs.log").stat().st_size <= 100
    assert "line 29" in (tmp_path / "ossfs.log").read_text()


def test_two_mounts_share_a_file_without_losing_a_line(tmp_path: Path) -> None:
    both = [SharedRotatingFile(str(tmp_path), max_bytes=500, files=50) for _ in range(2)]
    for number in range(200):
        both[number % 2].emit(record("line %03d", number))
    for handler in both:
        handler.close()
    text = "".join(path.read_text() for path in tmp_path.glob("ossfs.log*"))
    assert sorted(text.split()) == sorted(
        ["line", *[f"{n:03d}" for n in range(200)]] + ["line"] * 199
    )


def test_a_deleted_file_comes_back(tmp_path: Path, logger: logging.Logger) -> None:
    logger.addHandler(SharedRotatingFile(str(tmp_path)))
    logger.info("one")
    (tmp_path / "ossfs.log").unlink()
    logger.info("two")
    assert "two" in (tmp_path / "ossfs.log").read_text()


def test_whoever_follows_the_file_is_told_of_every_new_one(tmp_path: Path) -> None:
    told: list[int] = []
    handler = SharedRotatingFile(str(tmp_path), max_bytes=20, files=2, on_open=told.append)
    handler.emit(record("long enough to fill it"))
    handler.emit(record("and the next"))
    handler.close()
    assert len(told) == 3


def test_the_log_is_never_written_through_a_symbolic_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "ossfs.log").symlink_to(victim)
    with pytest.raises(UserError) as refused:
        configure(directory=str(tmp_path / "log"))
    assert refused.value.status is ExitStatus.USAGE
    assert victim.read_text() == "precious"


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"log_dir=.*cannot be used: Not a directory"):
        prepare_directory(str(tmp_path / "file" / "log"))
