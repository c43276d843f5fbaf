"""Questions to a serving process: a real socket, good and bad askers, none of whom holds it up."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from ossfs import inquiry
from ossfs.inquiry import Handler, Message, Send, answer, ask, inquire

ME = os.getpid()
LARGE = 4 << 20
"""Bytes, more than a socket takes of what nobody reads."""


class Answers:
    """Handlers, and what became of their answers."""

    def __init__(self) -> None:
        self.questions: list[Message] = []
        self.errors: list[BaseException] = []
        self.going = 0

    async def statistics(self, question: Message, send: Send) -> None:
        self.questions.append(question)
        await send({"requests": 7, "name": "\u6f22\n"})

    async def count(self, question: Message, send: Send) -> None:
        """Answer with as many lines as are asked for, of as many bytes, now and then."""
        self.going += 1
        try:
            for number in range(question["lines"]):
                await send({"line": number, "rest": "x" * question.get("bytes", 0)})
                await trio.sleep(question.get("pause", 0))
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.going -= 1

    async def fail(self, _question: Message, send: Send) -> None:
        await send({"line": 0})
        raise KeyError("unexpected")

    @property
    def handlers(self) -> dict[str, Handler]:
        return {"statistics": self.statistics, "count": self.count, "fail": self.fail}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(inquiry, "_READER_S", 0.3)


def serve(client: Callable[[Answers], Awaitable[None]]) -> None:
    """Answer on the trio loop while a client asks from threads."""

    async def main() -> None:
        made = Answers()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, made.handlers)
                while not listening():
                    await trio.sleep(0.001)
                await client(made)
                with trio.fail_after(5):
                    while made.going:
                        await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    trio.run(main)


def listening() -> bool:
    """Whether there is such a socket, and it takes connections (state 1)."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return any(
        line.endswith(f" @ossfs-inquiry-{ME}") and line.split()[3] == "00010000" for line in lines
    )


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await trio.to_thread.run_sync(call, *arguments, limiter=trio.CapacityLimiter(1))


def told(question: Message, patience: float = 5) -> list[dict[str, Any]]:
    return list(inquire(ME, question, patience))


def raw() -> socket.socket:
    """Connect without asking anything."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(5)
    made.connect(f"\0ossfs-inquiry-{ME}")
    return made


def said(text: bytes) -> bytes:
    """Send some bytes, and return what comes until the other end hangs up."""
    with raw() as made:
        try:
            made.sendall(text)
            return b"".join(iter(lambda: made.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


# Answers


def test_the_statistics_are_told() -> None:
    async def client(made: Answers) -> None:
        assert await in_thread(ask, ME) == {"requests": 7, "name": "\u6f22\n"}
        assert made.questions == [{"ask": "statistics"}]

    serve(client)


def test_an_answer_of_many_lines_comes_line_by_line() -> None:
    def first_in_time() -> float:
        begun = time.monotonic()
        lines = inquire(ME, {"ask": "count", "lines": 3, "pause": 0.2}, 5)
        assert next(lines)["line"] == 0
        first = time.monotonic() - begun
        assert [line["line"] for line in lines] == [1, 2]
        assert time.monotonic() - begun >= 0.4
        return first

    async def client(_made: Answers) -> None:
        assert await in_thread(first_in_time) < 0.3
        lines = await in_thread(told, {"ask": "count", "lines": 3, "bytes": LARGE})
        assert [len(line["rest"]) for line in lines] == [LARGE] * 3

    serve(client)


def test_a_long_question_is_understood() -> None:
    async def client(made: Answers) -> None:
        paths = ["\u6f22" * 100 + str(number) for number in range(1000)]
        assert await in_thread(told, {"ask": "statistics", "paths": paths})
        assert made.questions[0]["paths"] == paths

    serve(client)


def test_many_ask_at_once_and_all_are_answered() -> None:
    async def client(_made: Answers) -> None:
        answers = []

        async def one(number: int) -> None:
            question = {"ask": "count", "lines": number + 1, "pause": 0.01}
            answers.append((number, len(await in_thread(told, question))))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(one, number)
        assert sorted(answers) == [(number, number + 1) for number in range(20)]

    serve(client)


def test_those_who_connect_while_the_process_is_busy_are_answered_afterwards() -> None:
    """A loop that is at work for a while takes nobody's call meanwhile."""

    async def client(_made: Answers) -> None:
        results: list[object] = []

        def one() -> None:
            try:
                results.append(ask(ME))
            except OSError as error:
                results.append(error)

        threads = [threading.Thread(target=one) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)  # the loop stands still
        for thread in threads:
            await in_thread(thread.join)
        assert results == [{"requests": 7, "name": "\u6f22\n"}] * 20

    serve(client)


# Bad askers


@pytest.mark.parametrize(
    "text",
    [
        b"\n",
        b"hello\n",
        b"{}\n",
        b"[]\n",
        b"7\n",
        b'{"ask": 7}\n',
        b'{"ask": ["statistics"]}\n',
        b'{"ask": "nonsense"}\n',
        b'{"ask": "statistics"',
        b"\xff\xfe\0\n",
        b'{"ask": "statistics"}\n{"ask": "statistics"} trailing\n',
        b"[" * 100_000 + b"\n",
        b"x" * (5 << 20),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_nonsense_is_answered_by_nothing_and_does_no_harm(text: bytes) -> None:
    async def client(_made: Answers) -> None:
        assert await in_thread(said, text) == b""
        assert (await in_thread(ask, ME))["requests"] == 7

    serve(client)


def test_half_a_question_and_silence_are_hung_up_on() -> None:
    def silent(text: bytes) -> float:
        begun = time.monotonic()
        with raw() as made:
            made.sendall(text)
            assert made.recv(1) == b""
        return time.monotonic() - begun

    async def client(_made: Answers) -> None:
        for text in (b"", b'{"ask": "stat'):
            assert 0.2 < await in_thread(silent, text) < 2

    serve(client)


def test_the_silent_keep_others_waiting_for_a_moment_at_most() -> None:
    async def client(_made: Answers) -> None:
        silent = [raw() for _ in range(8)]
        await trio.testing.wait_all_tasks_blocked()
        silent += [raw() for _ in range(8)]
        await trio.testing.wait_all_tasks_blocked()
        begun = time.monotonic()
        assert len(await in_thread(told, {"ask": "statistics"})) == 1
        assert time.monotonic() - begun < 2
        for one in silent:
            one.close()

    serve(client)


def test_one_who_leaves_in_the_middle_ends_his_answer_alone() -> None:
    def leaves() -> None:
        lines = inquire(ME, {"ask": "count", "lines": 10_000, "pause": 0.001}, 5)
        next(lines)
        lines.close()  # type: ignore[attr-defined]

    async def client(made: Answers) -> None:
        other: list[Message] = []

        async def stays() -> None:
            other.extend(await in_thread(told, {"ask": "count", "lines": 50, "pause": 0.01}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stays)
            await in_thread(leaves)
            while not made.errors:
                await trio.sleep(0.001)
        assert len(other) == 50
        assert [isinstance(error, OSError) for error in made.errors] == [True]

    serve(client)


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async def client(made: Answers) -> None:
        with raw() as lazy:
            lazy.sendall(json.dumps({"ask": "count", "lines": 9, "bytes": LARGE}).encode() + b"\n")
            with trio.fail_after(5):
                while not made.errors:
                    assert (await in_thread(ask, ME))["requests"] == 7
        (error,) = made.errors
        assert isinstance(error, TimeoutError)
        assert error.errno == errno.ETIMEDOUT

    serve(client)


def test_an_answer_that_fails_is_logged_and_ends_there(expect_log: Callable[[str], None]) -> None:
    expect_log("unexpected failure of an answer")

    async def client(_made: Answers) -> None:
        assert await in_thread(told, {"ask": "fail"}) == [{"line": 0}]
        assert (await in_thread(ask, ME))["requests"] == 7

    serve(client)


# Nobody, or somebody else, answers


def test_nobody_answers_for_a_process_that_serves_nothing() -> None:
    for pid in (ME, 1, 4_999_999):
        with pytest.raises(ConnectionRefusedError):
            ask(pid)


def test_a_process_under_anothers_name_is_not_believed() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as impostor:
        impostor.bind("\0ossfs-inquiry-1")
        impostor.listen(1)
        with pytest.raises(ConnectionRefusedError, match="another process has its name"):
            ask(1)


def test_one_who_says_nothing_is_waited_for_as_long_as_was_said() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(f"\0ossfs-inquiry-{ME}")
        mute.listen(1)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            told({"ask": "statistics"}, 0.2)
        assert time.monotonic() - begun < 2


def test_a_line_that_breaks_off_is_an_error() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dying:
        dying.bind(f"\0ossfs-inquiry-{ME}")
        dying.listen(1)

        def die() -> None:
            connection, _ = dying.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b'{"line": 1}\n{"line":')

        thread = threading.Thread(target=die)
        thread.start()
        lines = inquire(ME, {"ask": "count"}, 5)
        assert next(lines) == {"line": 1}
        with pytest.raises(OSError, match="broke off"):
            next(lines)
        thread.join()


def test_where_no_socket_can_be_had_the_mount_goes_on_without(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("ossfs stats and ossfs warm will not be answered")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(f"\0ossfs-inquiry-{ME}")
        trio.run(answer, {})
