"""The transfer threads: order, growth, cancellation and closing."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

import pytest
import trio
from trio.testing import trio_test, wait_all_tasks_blocked

from ossfs.store.errors import Unavailable
from ossfs.store.transfer import TransferPool, TransferStatistics


class Gate:
    """A job that tells when it runs and ends when it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> str:
        self.entered.set()
        assert self.release.wait(10)
        return "released"

    async def wait_entered(self) -> None:
        assert await trio.to_thread.run_sync(self.entered.wait, 10)


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@trio_test
async def test_a_job_runs_on_a_pool_thread_and_its_result_travels():
    pool = TransferPool(2, name="travels")
    assert (await pool.run(lambda: threading.current_thread().name)).startswith("travels-")
    await pool.aclose()


@trio_test
async def test_exceptions_travel_with_their_traceback():
    pool = TransferPool(1)

    def fail() -> None:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside") as caught:
        await pool.run(fail)
    assert caught.traceback[-1].name == "fail"
    assert await pool.run(lambda: "the thread lives on") == "the thread lives on"
    await pool.aclose()


@trio_test
async def test_demand_goes_before_prefetch_and_each_in_order_of_arrival():
    pool = TransferPool(1)
    gate = Gate()
    order: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, gate)
        await gate.wait_entered()
        for name in ("p1", "d1", "p2", "d2", "p3", "d3"):
            nursery.start_soon(
                lambda name=name: pool.run(
                    lambda: order.append(name), prefetch=name.startswith("p")
                )
            )
            await wait_all_tasks_blocked()
        waiting = pool.statistics()
        assert (waiting.demand_waiting, waiting.prefetch_waiting, waiting.outstanding) == (3, 3, 7)
        gate.release.set()
    assert order == ["d1", "d2", "d3", "p1", "p2", "p3"]
    await pool.aclose()


@trio_test
async def test_a_job_cancelled_before_it_starts_never_runs():
    pool = TransferPool(1)
    gate = Gate()
    ran: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, gate)
        await gate.wait_entered()
        with trio.move_on_after(0) as scope:
            await pool.run(lambda: ran.append("cancelled"))
        assert scope.cancelled_caught
        gate.release.set()
    await pool.run(lambda: ran.append("after"))
    assert ran == ["after"]
    await pool.aclose()


@trio_test
async def test_a_job_under_way_is_waited_for_though_cancelled_and_its_result_kept():
    pool = TransferPool(1)
    gate = Gate()
    results: list[str] = []
    scope = trio.CancelScope()

    async def reader() -> None:
        with scope:
            results.append(await pool.run(gate))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await gate.wait_entered()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert results == []
        assert pool.statistics().outstanding == 1
        gate.release.set()
    assert results == ["released"]
    await pool.aclose()


@trio_test
async def test_threads_are_started_only_when_all_are_busy_and_never_over_the_limit():
    pool = TransferPool(2)
    for _ in range(20):
        await pool.run(lambda: None)
    assert pool.statistics().threads == 1
    gates = [Gate() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for gate in gates:
            nursery.start_soon(pool.run, gate)
            await wait_all_tasks_blocked()
        await gates[0].wait_entered()
        await gates[1].wait_entered()
        assert pool.statistics().threads == 2
        assert not gates[2].entered.is_set()
        for gate in gates:
            gate.release.set()
    await pool.aclose()


@trio_test
async def test_an_idle_thread_goes_home_and_another_comes_when_needed():
    pool = TransferPool(2, idle_seconds=0.01, name="goes-home")
    await pool.run(lambda: None)
    for thread in threads_of("goes-home"):
        await trio.to_thread.run_sync(thread.join, 10)
    assert pool.statistics().threads == 0
    assert await pool.run(lambda: 5) == 5
    await pool.aclose()


@trio_test
async def test_closing_waits_for_jobs_under_way_and_drops_those_that_wait():
    pool = TransferPool(1, name="closing")
    gate = Gate()
    outcomes: list[str] = []

    async def waiting() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await pool.run(lambda: outcomes.append("ran"))
        outcomes.append("dropped")

    async def close() -> None:
        await pool.aclose()
        outcomes.append("closed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, gate)
        await gate.wait_entered()
        nursery.start_soon(waiting)
        await wait_all_tasks_blocked()
        nursery.start_soon(close)
        await wait_all_tasks_blocked()
        assert outcomes == ["dropped"]
        gate.release.set()
    assert outcomes == ["dropped", "closed"]
    assert threads_of("closing") == []
    with pytest.raises(trio.ClosedResourceError):
        await pool.run(lambda: None)


@trio_test
async def test_closing_ignores_cancellation_until_the_buffers_are_free():
    pool = TransferPool(1)
    gate = Gate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, gate)
        await gate.wait_entered()
        with trio.CancelScope() as scope:
            scope.cancel()
            nursery.start_soon(trio.to_thread.run_sync, gate.release.set)
            await pool.aclose()
        assert pool.statistics().outstanding == 0


@trio_test
async def test_an_idle_thread_keeps_no_buffer_of_its_last_job_alive():
    class Block:
        pass

    pool = TransferPool(1)
    block = Block()
    gone = weakref.ref(block)
    await pool.run(lambda block=block: None)
    del block
    await pool.run(lambda: None)  # the thread has certainly finished with the first job
    gc.collect()
    assert gone() is None
    await pool.aclose()


@trio_test
async def test_under_random_cancellation_every_job_runs_or_is_dropped_and_no_caller_hangs():
    pool = TransferPool(4)
    rng = random.Random(3)
    started: set[int] = set()
    finished: set[int] = set()
    returned: set[int] = set()

    async def one(n: int) -> None:
        def job() -> None:
            started.add(n)
            finished.add(n)

        with trio.move_on_after(rng.choice((0, 0.0005, 10))):
            await pool.run(job, prefetch=bool(n % 2))
        if n in started:
            assert n in finished
        returned.add(n)

    async with trio.open_nursery() as nursery:
        for n in range(1_000):
            nursery.start_soon(one, n)
    assert returned == set(range(1_000))
    assert pool.statistics().outstanding == 0
    await pool.aclose()


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a switch: once it is thrown no thread of a pool can be started."""
    really = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("ossfs-transfer"):
            raise RuntimeError("can't start new thread")
        really(thread)

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


@trio_test
async def test_a_job_for_which_no_thread_can_be_started_waits_for_those_there_are(no_more_threads):
    pool = TransferPool(4)
    gate = Gate()
    ran: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, gate)
        await gate.wait_entered()
        no_more_threads()
        nursery.start_soon(pool.run, lambda: ran.append("demand"))
        nursery.start_soon(lambda: pool.run(lambda: ran.append("prefetch"), prefetch=True))
        await wait_all_tasks_blocked()
        assert ran == []
        assert pool.statistics().threads == 1
        gate.release.set()
    assert sorted(ran) == ["demand", "prefetch"]
    await pool.aclose()


@trio_test
async def test_without_any_thread_a_job_fails_at_once_and_leaves_nothing_behind(
    no_more_threads, monkeypatch
):
    pool = TransferPool(4)
    ran: list[str] = []
    no_more_threads()
    for prefetch in (False, True):
        with pytest.raises(Unavailable, match="can't start new thread"):
            await pool.run(lambda: ran.append("too late"), prefetch=prefetch)
    assert pool.statistics() == TransferStatistics(0, 0, 0, 0)
    monkeypatch.undo()
    await pool.run(lambda: ran.append("later"))
    assert ran == ["later"]
    await pool.aclose()


@trio_test
async def test_a_pool_whose_thread_never_started_closes_at_once(no_more_threads):
    pool = TransferPool(1)
    no_more_threads()
    with pytest.raises(Unavailable):
        await pool.run(lambda: None)
    await pool.aclose()


@trio_test
async def test_a_thread_about_to_leave_stays_for_a_job_that_has_just_come():
    class Tickets(SimpleQueue[bool]):
        """Found empty by the thread at the very moment the second ticket is put."""

        looks = puts = 0
        second = threading.Event()

        def get(self, *args: object, **kwargs: object) -> bool:
            self.looks += 1
            if self.looks == 2:
                assert self.second.wait(10)
                raise Empty
            return super().get(*args, **kwargs)

        def put(self, ticket: bool) -> None:
            super().put(ticket)
            self.puts += 1
            if self.puts == 2:
                self.second.set()

    pool = TransferPool(1)
    pool._tickets = Tickets()
    for _ in range(2):
        with trio.fail_after(10):
            assert await pool.run(lambda: 5) == 5
    await pool.aclose()


def test_a_pool_without_threads_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        TransferPool(0)
