"""What writers may hold: whose turn it is, and who gives way."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ossfs.runtime.blocks import BLOCK, SMALL, Block
from ossfs.writing.held import Held
from ossfs.writing.memory import Memory
from tests.unit.writing.support import MIB, Room, room, run


class Holder:
    """Someone who holds blocks and gives them back when asked, or cannot."""

    def __init__(self, memory: Memory, last_write: float, *, willing: bool = True) -> None:
        self.last_write = last_write
        self.willing = willing
        self.asked = 0
        self.blocks: list[Block] = []
        self._memory = memory
        memory.holders.add(self)

    def hold(self, size: int, count: int = 1) -> None:
        for _ in range(count):
            block = self._memory.try_take(size)
            assert block is not None
            self.blocks.append(block)

    def shed(self) -> int:
        self.asked += 1
        return self.give() if self.willing else 0

    def drop_kept(self) -> int:
        return self.shed()

    def give(self) -> int:
        freed = 0
        while self.blocks:
            freed += len(self.blocks[-1].view)
            self._memory.give(self.blocks.pop())
        return freed


def fill(made: Room) -> Holder:
    """Use the whole quota up, by one who cannot give back."""
    holder = Holder(made.memory, 0, willing=False)
    holder.hold(BLOCK, made.memory.quota // BLOCK)
    return holder


def test_blocks_are_had_up_to_the_quota_and_no_further() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made:
            holder = Holder(made.memory, 0)
            holder.hold(SMALL, 16)
            assert made.memory.used == 2 * MIB
            assert made.memory.try_take(1) is None
            assert made.memory.try_take(BLOCK) is None
            assert holder.give() == 2 * MIB
            assert made.memory.used == made.budget.used == 0

    run(main)


def test_the_quota_is_never_less_than_two_blocks() -> None:
    async def main() -> None:
        async with room(quota=1) as made:
            assert made.memory.quota == 2 * BLOCK

    run(main)


def test_those_who_wait_are_served_in_turn_and_nobody_jumps_the_queue() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made, trio.open_nursery() as nursery:
            holder = fill(made)
            order: list[str] = []
            blocks: list[Block] = []

            async def take(name: str, size: int) -> None:
                block = await made.memory.take(size)
                assert block is not None
                order.append(name)
                blocks.append(block)

            for name, size in (("large", BLOCK), ("small", SMALL), ("last", SMALL)):
                nursery.start_soon(take, name, size)
                await trio.testing.wait_all_tasks_blocked()
            assert made.memory.waiting == 3
            made.memory.give(holder.blocks.pop())
            assert made.memory.try_take(SMALL) is None
            await trio.testing.wait_all_tasks_blocked()
            assert order == ["large"]
            made.memory.give(holder.blocks.pop())
            await trio.testing.wait_all_tasks_blocked()
            assert order == ["large", "small", "last"]
            assert made.memory.waiting == 0
            for block in blocks:
                made.memory.give(block)
            assert made.memory.used == made.budget.used == 0

    run(main)


def test_one_who_stops_waiting_lets_the_next_have_its_turn() -> None:
    async def take_in(scope: trio.CancelScope, memory: Memory) -> None:
        with scope:
            await memory.take(BLOCK)

    async def main() -> None:
        async with room(quota=2 * MIB) as made, trio.open_nursery() as nursery:
            holder = fill(made)
            got: list[Block | None] = []
            scope = trio.CancelScope()

            async def take() -> None:
                got.append(await made.memory.take(SMALL))

            nursery.start_soon(take_in, scope, made.memory)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(take)
            await trio.testing.wait_all_tasks_blocked()
            assert made.memory.waiting == 2
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert made.memory.waiting == 1
            holder.give()
            await trio.testing.wait_all_tasks_blocked()
            assert got[0] is not None
            made.memory.give(got[0])
            assert made.memory.used == made.budget.used == 0

    run(main)


def test_what_a_waiting_handler_holds_is_charged() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made, trio.open_nursery() as nursery:
            fill(made)
            before = made.budget.used
            nursery.start_soon(made.memory.take, SMALL)
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == before + BLOCK
            nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint_if_cancelled()

    run(main)


def test_when_too_many_wait_the_disk_is_used_and_only_without_it_more_wait() -> None:
    async def main() -> None:
        for disk, answered in ((64 * MIB, True), (0, False)):
            async with room(quota=2 * MIB, most_waiting=1, disk=disk) as made:
                fill(made)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(made.memory.take, SMALL)
                    await trio.testing.wait_all_tasks_blocked()
                    assert made.memory.crowded
                    with trio.move_on_after(1) as scope:
                        assert await made.memory.take(SMALL) is None
                    assert scope.cancelled_caught is not answered
                    nursery.cancel_scope.cancel()

    run(main)


def test_those_idle_longest_give_back_first_and_no_more_than_is_wanted() -> None:
    async def main() -> None:
        async with room(quota=8 * MIB) as made:
            holders = [Holder(made.memory, last) for last in (3, 1, 2)]
            for holder in holders:
                holder.hold(BLOCK, 2)
            fast = Holder(made.memory, 4)
            fast.hold(BLOCK, 2)
            block = await made.memory.take(BLOCK)
            assert [holder.asked for holder in (*holders, fast)] == [0, 1, 0, 0]
            assert block is not None

    run(main)


def test_nobody_is_asked_while_enough_is_on_its_way() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made, trio.open_nursery() as nursery:
            fill(made)
            idle = Holder(made.memory, 0)
            made.memory.shipping += MIB
            nursery.start_soon(made.memory.take, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            assert idle.asked == 0
            made.memory.shipped(MIB)  # and somebody else got it
            assert idle.asked > 0
            nursery.cancel_scope.cancel()

    run(main)


def test_one_who_could_not_give_back_is_asked_again_after_a_nudge() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made:
            holder = fill(made)
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(made.memory.take, SMALL)
                    await trio.testing.wait_all_tasks_blocked()
                    holder.willing = True
                    made.memory.nudge()
            assert made.memory.used == SMALL

    run(main)


def test_readers_get_what_is_only_kept() -> None:
    async def main() -> None:
        async with room(quota=8 * MIB, limit=24 * MIB) as made:
            old, new = Holder(made.memory, 1), Holder(made.memory, 2)
            old.hold(BLOCK, 2)
            new.hold(BLOCK, 2)
            assert made.budget.try_take(20 * MIB)
            assert not made.budget.try_take(MIB)
            assert made.budget.try_take(MIB, reclaim=True)
            assert (old.asked, new.asked) == (1, 0)

    run(main)


@pytest.mark.parametrize("spilled", [False, True])
def test_spilled_bytes_are_charged_while_they_are_in_memory_to_be_sent(spilled: bool) -> None:
    async def main() -> None:
        async with room() as made:
            held = Held(made.memory, 0)
            await held.gather(memoryview(bytes(1000)))
            if spilled:
                held.spill()
            before = made.budget.used
            async with made.memory.brought(held):
                assert made.budget.used == before + 1000 * spilled
            assert made.budget.used == before
            held.release()
            assert made.budget.used == 0

    run(main)


def test_only_one_part_at_a_time_is_brought_from_the_disk() -> None:
    async def main() -> None:
        async with room() as made, trio.open_nursery() as nursery:
            both = [Held(made.memory, 0), Held(made.memory, 0)]
            inside = 0
            most = 0

            async def send(held: Held) -> None:
                nonlocal inside, most
                async with made.memory.brought(held):
                    inside += 1
                    most = max(most, inside)
                    await trio.sleep(1)
                    inside -= 1
                held.release()

            for held in both:
                await held.gather(memoryview(b"x"))
                held.spill()
                nursery.start_soon(send, held)
            await trio.sleep(3)
            assert (most, inside) == (1, 0)

    run(main)
