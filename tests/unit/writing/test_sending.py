"""Parts on their way: as many as pay, shared by the uploads that send."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from ossfs.writing.sending import COMFORT, FORGOTTEN_S, Sending

MIB = 1 << 20
PART = 8 * MIB
FIRST = COMFORT // PART


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def upload(
    sending: Sending,
    clock: Clock,
    seconds: float,
    duration: Callable[[int], float],
    uploads: int = 1,
) -> list[int]:
    """Send parts for so long, always with writers that wait; return the widths there were.

    `duration(width)` is what a part takes that is sent beside so many.
    """
    widths = []
    under_way: list[tuple[float, int, int, AbstractContextManager[None]]] = []
    sent = [0] * uploads
    number = 0
    for _ in range(uploads):
        sending.began()
    end = clock.now + seconds
    while clock.now < end:
        for each in range(uploads):
            while sent[each] < sending.share():
                part = sending.measured()
                part.__enter__()
                number += 1
                sent[each] += 1
                width = sending.share() * uploads
                heapq.heappush(under_way, (clock.now + duration(width), number, each, part))
            sending.waited()
        widths.append(sending.share() * uploads)
        clock.now, _, each, part = heapq.heappop(under_way)
        sent[each] -= 1
        part.__exit__(None, None, None)
    for *_, part in under_way:
        part.__exit__(None, None, None)
    for _ in range(uploads):
        sending.ended()
    return widths


def distant(width: int) -> float:
    """20 ms, and 100 MB/s for each part whatever the others do."""
    return 0.02 + PART / 100e6


def near(width: int) -> float:
    """A GB/s that all parts share."""
    return width * PART / 1e9


def test_a_near_store_is_sent_no_more_than_it_needs() -> None:
    clock = Clock()
    widths = upload(Sending(64, PART, clock), clock, 60, near)
    assert widths[0] == widths[-1] == FIRST
    assert max(widths) == FIRST * 3 // 2
    assert sum(width > FIRST for width in widths) < len(widths) / 20


def test_a_distant_store_gets_nearly_all_that_it_may_within_seconds() -> None:
    clock = Clock()
    assert upload(Sending(64, PART, clock), clock, 3, distant)[-1] >= 60


@pytest.mark.parametrize("uploads", [5, 7, 8, 16])
def test_a_distant_store_gets_as_much_from_many_uploads(uploads: int) -> None:
    clock = Clock()
    assert upload(Sending(64, PART, clock), clock, 10, distant, uploads)[-1] > 64 - uploads


@pytest.mark.parametrize("uploads", [7, 8])
def test_a_near_store_is_sent_no_more_by_many_uploads(uploads: int) -> None:
    clock = Clock()
    widths = upload(Sending(64, PART, clock), clock, 60, near, uploads)
    assert widths[-1] == uploads
    assert max(widths) == 2 * uploads


def test_never_more_than_upload_concurrency_is_sent() -> None:
    clock = Clock()
    assert set(upload(Sending(3, PART, clock), clock, 5, distant)) == {3}


def test_nobody_waits_nothing_widens() -> None:
    clock = Clock()
    sending = Sending(64, PART, clock)
    sending.began()
    for _ in range(1000):
        with sending.measured():
            clock.now += distant(1)
    assert sending.share() == FIRST


def test_large_parts_go_two_at_a_time_and_small_ones_as_far_as_they_may() -> None:
    assert Sending(64, 128 * MIB, Clock()).share() == 2
    assert Sending(16, MIB, Clock()).share() == 16


def test_uploads_share_evenly_and_each_sends_something() -> None:
    sending = Sending(64, PART, Clock())
    for _ in range(3):
        sending.began()
    assert sending.share() == FIRST // 3
    for _ in range(30):
        sending.began()
    assert sending.share() == 1
    for _ in range(32):
        sending.ended()
    assert sending.share() == FIRST


def test_parts_that_fail_teach_nothing() -> None:
    clock = Clock()
    sending = Sending(64, PART, clock)
    sending.waited()
    for _ in range(100):
        with pytest.raises(OSError), sending.measured():
            raise OSError
    assert sending.share() == FIRST


def test_time_without_anything_on_its_way_tells_nothing() -> None:
    clock = Clock()
    sending = Sending(64, PART, clock)
    for _ in range(40):  # short uploads with long pauses
        upload(sending, clock, 1, distant)
        clock.now += FORGOTTEN_S - 1
    assert sending.share() >= 60


def test_what_was_learned_is_forgotten_when_nothing_is_written_for_long() -> None:
    clock = Clock()
    sending = Sending(64, PART, clock)
    upload(sending, clock, 3, distant)
    clock.now += FORGOTTEN_S + 1
    assert upload(sending, clock, 1, near)[0] == FIRST
