"""A mount that is ended while it waits leaves neither mount nor process behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from ossfs.cli import handover, mounts
from ossfs.cli.serve import Parent
from tests.cli.command import Ossfs, serving_processes
from tests.support.mount import wait_until

ENDINGS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL]


@pytest.fixture
def mute(ossfs: Ossfs) -> Iterator[Ossfs]:
    """An endpoint that takes requests and never answers, so that a mount waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ossfs.options += f",oss_endpoint=http://127.0.0.1:{server.getsockname()[1]}"
        yield ossfs


def status_of(process: subprocess.Popen[str]) -> int:
    """Return what a shell would show; fails where more was said than one line."""
    _, said = process.communicate(timeout=10)
    assert len(said.splitlines()) <= 1, said
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def no_mount_of(ossfs: Ossfs) -> bool:
    return not serving_processes(ossfs.point) and mounts.mount_at(str(ossfs.point)) is None


@pytest.mark.parametrize("number", ENDINGS)
def test_a_mount_that_is_ended_while_the_endpoint_is_silent(
    mute: Ossfs, number: signal.Signals
) -> None:
    with mute.start(*mute.usual) as process:
        wait_until(lambda: serving_processes(mute.point))
        process.send_signal(number)
        assert status_of(process) == 128 + number
    wait_until(lambda: no_mount_of(mute), 5)


@pytest.mark.parametrize("number", ENDINGS)
def test_in_the_foreground_as_well(mute: Ossfs, number: signal.Signals) -> None:
    with mute.start(*mute.usual, "-f") as process:
        wait_until(lambda: serving_processes(mute.point))
        process.send_signal(number)
        process.communicate(timeout=10)
    wait_until(lambda: no_mount_of(mute), 5)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_mount_that_would_have_come_about_does_not_once_nobody_waits(
    ossfs: Ossfs, number: signal.Signals
) -> None:
    ossfs.emulator.pause()
    try:
        with ossfs.start(*ossfs.usual) as process:
            wait_until(lambda: serving_processes(ossfs.point))
            process.send_signal(number)
            ossfs.emulator.resume()
            assert status_of(process) == 128 + number
    finally:
        ossfs.emulator.resume()
    wait_until(lambda: no_mount_of(ossfs), 10)


def test_an_ignored_hangup_stays_ignored(mute: Ossfs) -> None:
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *mute.command(*mute.usual)]
    with subprocess.Popen(
        command, env=mute.environment(), cwd=mute.directory, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: serving_processes(mute.point))
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert status_of(process) == 128 + signal.SIGTERM


def test_a_word_that_nobody_hears_is_no_word() -> None:
    heard, told = os.pipe()
    os.close(heard)
    assert Parent(told).tell(handover.Word(), "mounted") is False


def test_a_word_is_said_once() -> None:
    heard, told = os.pipe()
    parent = Parent(told)
    assert parent.tell(handover.Word(), "mounted")
    assert parent.tell(handover.Word("too late"), "too late")
    assert handover.Word.decode(handover.read_all(heard)) == handover.Word()
