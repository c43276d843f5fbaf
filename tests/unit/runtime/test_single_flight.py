"""Identical calls at once are one call, and nobody inherits a cancellation."""

from __future__ import annotations

import pytest
import trio
import trio.testing

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


def test_a_fresh_call_takes_no_outcome_of_one_that_was_under_way_but_shares_the_next() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        begun: list[float] = []

        async def call() -> int:
            begun.append(trio.current_time())
            number = len(begun)
            await trio.sleep(2)
            return number

        results: list[tuple[bool, int]] = []

        async def ask(fresh: bool) -> None:
            results.append((fresh, await flights.run("key", call, fresh=fresh)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, True)
            await trio.sleep(1)
            for _ in range(4):
                nursery.start_soon(ask, True)
            nursery.start_soon(ask, False)
            await trio.sleep(2)
            nursery.start_soon(ask, True)
        assert begun == [0, 2, 4]
        assert sorted(results) == [(False, 1), (True, 1), *[(True, 2)] * 4, (True, 3)]

    run(main)


def test_a_fresh_call_runs_at_once_where_nothing_is_under_way_for_its_key() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()

        async def call() -> int:
            await trio.sleep(1)
            return 7

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flights.run, "other", call)
            await trio.testing.wait_all_tasks_blocked()
            assert await flights.run("key", call, fresh=True) == 7
            assert trio.current_time() == 1

    run(main)


@pytest.mark.parametrize("ending", ["error", "cancelled"])
def test_a_fresh_call_cares_for_no_end_of_the_one_before(ending: str) -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()

        async def fail() -> int:
            await trio.sleep(2)
            raise KeyError("x")

        async def call() -> int:
            await trio.sleep(1)
            return 7

        async def first() -> None:
            with trio.move_on_after(1 if ending == "cancelled" else 9):
                with pytest.raises(KeyError):
                    await flights.run("key", fail)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            assert await flights.run("key", call, fresh=True) == 7
            assert trio.current_time() == (2 if ending == "cancelled" else 3)

    run(main)


def test_a_fresh_call_outlives_the_cancellation_of_the_one_it_shares() -> None:
    async def main() -> None:
        flights: SingleFlight[str, int] = SingleFlight()
        calls = []

        async def call() -> int:
            calls.append(trio.current_time())
            await trio.sleep(2)
            return 7

        async def ask(patience: float) -> None:
            with trio.move_on_after(patience):
                assert await flights.run("key", call, fresh=True) == 7

        async with trio.open_nursery() as nursery:
            for patience in (99, 3, 99):
                nursery.start_soon(ask, patience)
                await trio.testing.wait_all_tasks_blocked()
        assert calls in ([0, 2], [0, 2, 3]), "whichever of the two began the second"

    run(main)
