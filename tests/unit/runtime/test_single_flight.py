"""Identical calls at once are one call, and nobody inherits a cancellation."""

from __future__ import annotations

import pytest
import trio

from ossfs.runtime.single_flight import SingleFlight
from tests.support.core import run


def test_callers_share_the_outcome_of_the_one_under_way() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        calls = []

        async def call() -> int:
            calls.append(1)
            await trio.sleep(1)
            return 7

        results = []

        async def ask() -> None:
            results.append(await flights.run("key", call))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        assert results == [7] * 5
        assert len(calls) == 1
        assert await flights.run("key", call) == 7
        assert len(calls) == 2, "what is over is asked again"

    run(main)


def test_an_error_is_everybodys() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()

        async def call() -> int:
            await trio.sleep(1)
            raise KeyError("x")

        async def ask() -> None:
            with pytest.raises(KeyError):
                await flights.run("key", call)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)

    run(main)


def test_the_next_caller_takes_over_from_one_that_was_cancelled() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        calls = []

        async def call() -> int:
            calls.append(1)
            await trio.sleep(2)
            return 7

        async def impatient() -> None:
            with trio.move_on_after(1):
                await flights.run("key", call)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            await trio.testing.wait_all_tasks_blocked()
            assert await flights.run("key", call) == 7
        assert len(calls) == 2

    run(main)
