"""The queue of notifications: nothing waits for it, and nothing ends its thread."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyfuse3
import pytest
import trio

from ossfs.fuse.notify import LIMIT, PUSHES, Notifier
from ossfs.runtime.metrics import Metrics


class Kernel:
    """Stands for the kernel's side: takes notifications, or keeps them waiting."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.arrived = threading.Event()
        self.heard: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None

    def take(self, *what: Any) -> None:
        self.arrived.set()
        assert self.open.wait(30)
        self.heard.append(what)
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    for name in ("invalidate_entry", "invalidate_inode", "notify_store"):
        monkeypatch.setattr(
            pyfuse3, name, lambda *given, _name=name, **named: made.take(_name, *given, *named)
        )
    yield made
    made.open.set()


async def through(notifier: Notifier) -> None:
    """Wait until the thread is through with all that is queued."""
    over = trio.Event()
    assert notifier.push(0, [], lambda _: True, lambda _: over.set())
    await over.wait()


def with_notifier(test: Callable[[Notifier, Metrics], Any]) -> None:
    async def main() -> None:
        metrics = Metrics()
        notifier = Notifier(metrics)
        try:
            await test(notifier, metrics)
        finally:
            notifier.close()

    trio.run(main)


def test_hints_are_passed_on_in_order(kernel: Kernel) -> None:
    async def test(notifier: Notifier, _: Metrics) -> None:
        notifier.drop_name(1, b"name")
        notifier.drop_attributes(2)
        await through(notifier)
        assert kernel.heard == [
            ("invalidate_entry", 1, b"name"),
            ("invalidate_inode", 2, "attr_only"),
        ]

    with_notifier(test)


def test_while_the_kernel_takes_none_they_are_dropped_beyond_the_limit(kernel: Kernel) -> None:
    async def test(notifier: Notifier, metrics: Metrics) -> None:
        kernel.open.clear()
        notifier.drop_attributes(1)
        await trio.to_thread.run_sync(kernel.arrived.wait)
        for inode in range(LIMIT + 10):
            notifier.drop_attributes(inode)
        assert metrics.counts["hints_dropped"] == 10
        kernel.open.set()
        await through(notifier)
        assert len(kernel.heard) == 1 + LIMIT

    with_notifier(test)


def test_pushes_beyond_their_limit_are_refused_and_the_rest_told_done(kernel: Kernel) -> None:
    async def test(notifier: Notifier, metrics: Metrics) -> None:
        kernel.open.clear()
        pieces = [(0, memoryview(b"12345678"))]
        told: list[list[bool]] = []
        all_told = trio.Event()

        def tell(stored: list[bool]) -> None:
            told.append(stored)
            if len(told) == PUSHES:
                all_told.set()

        for _ in range(PUSHES):
            assert notifier.push(1, pieces, lambda _: True, tell)
        assert not notifier.push(1, pieces, lambda _: True, told.append)
        kernel.open.set()
        with trio.fail_after(30):
            await all_told.wait()
        assert told == [[True]] * PUSHES
        assert metrics.counts["pushed_bytes"] == 8 * PUSHES
        assert notifier.push(1, pieces, lambda _: False, told.append)
        await through(notifier)
        assert told[-1] == [False]

    with_notifier(test)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR])
def test_what_the_kernel_refuses_ends_nothing(kernel: Kernel, number: int) -> None:
    async def test(notifier: Notifier, metrics: Metrics) -> None:
        kernel.fails = OSError(number, "no")
        notifier.drop_name(1, b"name")
        told: list[list[bool]] = []
        pieces = [(0, memoryview(b"1")), (1, memoryview(b"2"))]
        assert notifier.push(1, pieces, lambda _: True, told.append)
        await through(notifier)
        assert told == [[False, False]]
        assert metrics.counts["pushed_bytes"] == 0

    with_notifier(test)


def test_an_error_of_our_own_is_logged_and_ends_nothing(
    kernel: Kernel, expect_log: Callable[[str], None]
) -> None:
    expect_log("unexpected failure of a notification")

    async def test(notifier: Notifier, _: Metrics) -> None:
        kernel.fails = ValueError("oops")
        notifier.drop_name(1, b"name")
        await through(notifier)
        kernel.fails = None
        notifier.drop_name(1, b"next")
        await through(notifier)
        assert kernel.heard[-1] == ("invalidate_entry", 1, b"next")

    with_notifier(test)


def test_what_is_queued_when_it_is_closed_is_not_handed_over(kernel: Kernel) -> None:
    async def test(notifier: Notifier, _: Metrics) -> None:
        kernel.open.clear()
        told: list[list[bool]] = []
        pieces = [(0, memoryview(b"1")), (1, memoryview(b"2"))]
        assert notifier.push(1, pieces, lambda _: True, told.append)
        assert notifier.push(2, pieces, lambda _: True, told.append)
        await trio.to_thread.run_sync(kernel.arrived.wait)
        notifier.close()
        assert not notifier.push(3, pieces, lambda _: True, told.append)
        with trio.move_on_after(0.05) as early:
            await notifier.closed()
        assert early.cancelled_caught
        kernel.open.set()
        with trio.fail_after(30):
            await notifier.closed()
        assert told == [[True, False], [False, False]]

    with_notifier(test)


def test_a_mount_that_has_ended_is_told_nothing(kernel: Kernel) -> None:
    kernel.open.clear()
    told: list[list[bool]] = []

    async def test(notifier: Notifier, _: Metrics) -> None:
        assert notifier.push(1, [(0, memoryview(b"1"))], lambda _: True, told.append)
        await trio.to_thread.run_sync(kernel.arrived.wait)

    with_notifier(test)
    kernel.open.set()
    assert told == []
