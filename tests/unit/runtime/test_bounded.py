"""Calls that may hang are made by a child that can be left behind."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from pathlib import Path

import pytest

from ossfs.runtime.bounded import within
from ossfs.runtime.failure import ExitStatus, UserError

FOR_EVER = threading.Event().wait


def test_a_call_that_hangs_is_given_up() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.01, FOR_EVER)
    assert time.monotonic() - begun < 5


def test_a_call_in_time_gives_its_result() -> None:
    assert within(10, lambda: {"a": bytes(1_000_000)}) == {"a": bytes(1_000_000)}


def test_or_its_error() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        within(10, lambda: os.stat("/no/such/file"))
    assert missing.value.filename == "/no/such/file"

    def refuse() -> None:
        raise UserError("no", ExitStatus.FUSE)

    with pytest.raises(UserError) as refused:
        within(10, refuse)
    assert (refused.value.message, refused.value.status) == ("no", ExitStatus.FUSE)


def test_what_the_call_does_to_this_process_stays_in_the_child() -> None:
    here = os.getcwd()
    within(10, lambda: os.chdir("/"))
    assert os.getcwd() == here


def test_a_child_that_dies_is_an_error() -> None:
    with pytest.raises(ChildProcessError):
        within(10, lambda: os._exit(1))


def test_a_child_holds_none_of_our_files() -> None:
    # A reader waits for the end of a pipe: a child that hangs must not keep it open.
    reading, writing = os.pipe()

    def hang() -> None:
        try:
            os.fstat(writing)
        except OSError:
            FOR_EVER()

    with pytest.raises(TimeoutError):
        within(0.2, hang)
    os.close(writing)
    closed = select.select([reading], [], [], 5)[0]
    os.close(reading)
    assert closed == [reading]


def test_no_child_is_left_behind(tmp_path: Path) -> None:
    told = tmp_path / "pid"

    def tell_and_hang() -> None:
        told.write_text(str(os.getpid()))
        FOR_EVER()

    with pytest.raises(TimeoutError):
        within(1, tell_and_hang)
    for pid in (told.read_text(), within(10, os.getpid)):
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_ends_no_call_that_has_begun(number: signal.Signals) -> None:
    def work() -> str:
        os.kill(os.getpid(), number)
        return "done"

    assert within(10, work) == "done"


def test_signals_are_let_in_again() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    within(10, os.getpid)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
