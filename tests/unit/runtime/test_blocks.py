"""Blocks: each in one place at a time, all of them granted by the budget."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st

from ossfs.runtime.blocks import BLOCK, SMALL, Block, BlockPool
from ossfs.runtime.budget import Budget
from tests.support.core import run


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=200))
def test_a_block_is_never_in_two_hands(steps: list[tuple[bool, int]]) -> None:
    budget = Budget(4 * BLOCK)
    pool = BlockPool(budget)
    held: list[Block] = []
    for number, (small, give) in enumerate(steps):
        block = pool.try_take(SMALL if small else BLOCK)
        if block is not None:
            block.view[:8] = number.to_bytes(8, "big")
            held.append(block)
        if held and give < 12:
            pool.give(held.pop(give % len(held)))
        marks = [bytes(block.view[:8]) for block in held]
        assert len(set(marks)) == len(held)
        assert budget.used <= budget.limit
    for block in held:
        pool.give(block)
    assert budget.used == 0
    pool.trim()


def test_eight_small_blocks_share_a_large_one() -> None:
    budget = Budget(2 * BLOCK)
    pool = BlockPool(budget)
    small = [pool.try_take(1) for _ in range(8)]
    assert all(small)
    assert budget.used == BLOCK
    assert pool.try_take(SMALL) is not None
    assert budget.used == 2 * BLOCK
    assert pool.try_take(BLOCK) is None


def test_trimming_returns_what_lay_idle_since_the_last_time() -> None:
    pool = BlockPool(Budget(8 * BLOCK))
    blocks = [pool.try_take(BLOCK) for _ in range(8)]
    for block in blocks:
        assert block is not None
        pool.give(block)
    assert pool.trim() == 0
    hot = pool.try_take(BLOCK)
    assert hot is not None
    pool.give(hot)
    assert pool.trim() == 7 * BLOCK
    assert pool.trim() == BLOCK
    assert pool.trim() == 0


def test_whoever_waits_gets_a_block_in_turn_and_small_requests_do_not_starve_them() -> None:
    async def main() -> None:
        pool = BlockPool(Budget(BLOCK))
        first = await pool.take(SMALL)
        order: list[str] = []

        async def want(name: str, size: int) -> None:
            block = await pool.take(size)
            order.append(name)
            pool.give(block)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(want, "large", BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(want, "small", SMALL)
            await trio.testing.wait_all_tasks_blocked()
            assert order == []
            pool.give(first)
        assert order == ["large", "small"]

    run(main)
