"""One budget: bounded, fair, and never the reason that a read fails."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ossfs.runtime.budget import ROOM, Budget
from tests.support.core import run


def test_it_grants_up_to_its_limit_and_no_further() -> None:
    budget = Budget(10)
    assert budget.try_take(6)
    assert not budget.try_take(5)
    assert budget.try_take(4)
    assert (budget.used, budget.free, budget.peak) == (10, 0, 10)
    budget.give(10)
    assert (budget.used, budget.peak) == (0, 10)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        Budget(0)


def test_charges_may_overdraw_it_but_never_leave_nothing_to_take() -> None:
    budget = Budget(4 * ROOM)
    budget.charge(10 * ROOM)
    assert budget.used == 10 * ROOM
    assert budget.free == ROOM
    assert budget.try_take(ROOM)
    assert not budget.try_take(1)
    budget.charge(-7 * ROOM)
    assert budget.free == 0
    budget.charge(-3 * ROOM)
    assert budget.free == 3 * ROOM


def test_whoever_waits_goes_on_when_charges_go() -> None:
    async def main() -> None:
        budget = Budget(4 * ROOM)
        budget.charge(4 * ROOM)
        await budget.take(ROOM)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.take, ROOM)
            await trio.testing.wait_all_tasks_blocked()
            assert budget.waiting == 1
            budget.charge(-2 * ROOM)
        assert budget.used == 4 * ROOM

    trio.run(main)


def test_comfort_is_reclaimed_before_anybody_waits() -> None:
    budget = Budget(10)
    asked = []

    def reclaim(wanted: int) -> int:
        asked.append(wanted)
        budget.give(8)
        return 8

    budget.add_reclaimer(reclaim)
    assert budget.try_take(8)
    assert not budget.try_take(6), "only who asks for it takes comfort away"
    assert budget.try_take(6, reclaim=True)
    assert asked == [4]
    assert budget.used == 6


def test_who_waits_is_served_in_turn_and_nobody_jumps_the_queue() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        order = []

        async def want(size: int) -> None:
            await budget.take(size)
            order.append(size)

        async with trio.open_nursery() as nursery:
            for size in (7, 2, 5):
                nursery.start_soon(want, size)
                await trio.testing.wait_all_tasks_blocked()
            budget.give(3)
            await trio.testing.wait_all_tasks_blocked()
            assert order == [], "two bytes would fit, but seven are first"
            assert not budget.try_take(1)
            budget.give(7)
            await trio.testing.wait_all_tasks_blocked()
            assert order == [7, 2]
            budget.give(9)
        assert order == [7, 2, 5]
        assert budget.used == 5

    run(main)


def test_a_cancelled_waiter_leaves_nothing_behind() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        with trio.move_on_after(1):
            await budget.take(5)
        assert budget.waiting == 0
        budget.give(10)
        assert budget.try_take(10)

    run(main)


def test_a_request_over_the_limit_is_granted_alone() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(25)
        assert budget.used == 25
        budget.give(25)

    run(main)


def test_a_nudge_lets_the_first_look_again() -> None:
    async def main() -> None:
        budget = Budget(10)
        await budget.take(10)
        arrived = []

        def reclaim(wanted: int) -> int:
            if not arrived:
                return 0
            budget.give(10)
            return 10

        budget.add_reclaimer(reclaim)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budget.take, 4)
            await trio.testing.wait_all_tasks_blocked()
            arrived.append("a cell that may be taken back")
            budget.nudge()
        assert budget.used == 4

    run(main)


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 3), st.booleans()), min_size=1, max_size=40
    )
)
def test_any_crowd_is_served_within_the_limit_and_all_comes_back(
    crowd: list[tuple[int, int, bool]],
) -> None:
    async def main() -> None:
        budget = Budget(40)

        async def visit(size: int, seconds: int, patient: bool) -> None:
            with trio.move_on_after(float("inf") if patient else 1.5):
                await budget.take(size)
                try:
                    assert budget.used <= budget.limit
                    await trio.sleep(seconds)
                finally:
                    budget.give(size)

        with trio.fail_after(1_000):
            async with trio.open_nursery() as nursery:
                for size, seconds, patient in crowd:
                    nursery.start_soon(visit, size, seconds, patient)
        assert (budget.used, budget.waiting) == (0, 0)
        assert budget.peak <= budget.limit

    run(main)
