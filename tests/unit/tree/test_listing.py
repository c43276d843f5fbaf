"""Listings: a page ahead, every earlier cookie exact, memory and errors accounted for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ossfs.store.api import ListPage
from ossfs.store.errors import StoreError, Unavailable
from ossfs.store.memory import MemoryStore
from ossfs.tree.changes import Asked
from ossfs.tree.listing import START, Listing
from tests.support.core import run

PREFIX = b"dir/"


def now() -> Asked:
    return Asked(0, trio.current_time())


class Bucket:
    """A bucket that counts how it is listed, in small pages, and can be told to fail or wait."""

    def __init__(self, *keys: bytes, size: int = 3) -> None:
        self.store = MemoryStore()
        self.size = size
        self.asked = 0
        self.fail: Callable[[], None] = lambda: None
        self.held: trio.Event | None = None
        self.charged = 0
        self.skipped: list[bytes] = []
        for key in keys:
            self.add(key)

    def add(self, key: bytes) -> None:
        self.store.put(PREFIX + key, [b""], deadline=1e9)

    def remove(self, key: bytes) -> None:
        self.store.delete(PREFIX + key, deadline=1e9)

    async def page(
        self, prefix: bytes, start_after: bytes, token: str | None
    ) -> tuple[ListPage, Asked]:
        self.asked += 1
        asked = now()
        await trio.lowlevel.checkpoint()
        if self.held is not None:
            await self.held.wait()
        self.fail()
        page = self.store.list_page(
            prefix, start_after=start_after, token=token, max_keys=self.size, deadline=1e9
        )
        return page, asked

    def charge(self, size: int) -> None:
        self.charged += size
        assert self.charged >= 0

    def listing(self, nursery: trio.Nursery) -> Listing:
        return Listing(PREFIX, self.page, nursery, now, self.charge, self.skipped.extend)


Told = list[tuple[bytes, int]]
"""Names with their cookies; directories with a slash."""


async def told(listing: Listing, cookie: int = START, most: int = 10**9) -> Told:
    """Up to `most` names after `cookie`."""
    found: Told = []
    while len(found) < most:
        place = await listing.page_at(cookie)
        if place is None:
            break
        page, index = place
        for one, number in zip(page.names[index:], page.numbers[index:], strict=True):
            found.append((one.name if one.entry is not None else one.name + b"/", number))
        del found[most:]
        cookie = found[-1][1]
    return found


async def names(listing: Listing, cookie: int = START, most: int = 10**9) -> list[bytes]:
    return [name for name, _ in await told(listing, cookie, most)]


def down() -> None:
    raise Unavailable("down")


def numbered(count: int) -> list[bytes]:
    return [b"%04d" % number for number in range(count)]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (3, 1), (4, 2), (20, 7), (21, 7)])
def test_a_directory_is_read_in_as_many_requests_as_it_has_pages(count: int, pages: int) -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(count))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            assert await names(listing) == numbered(count)
            assert bucket.asked == pages
            assert await listing.page_at(count) is None
            assert bucket.asked == pages, "the end is known"
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_one_page_is_fetched_ahead_and_no_more() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(30))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            assert bucket.asked == 0, "nothing before somebody asks"
            for page in range(5):
                assert await names(listing, 3 * page, 1)
                await trio.testing.wait_all_tasks_blocked()
                assert bucket.asked == page + 2
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_a_page_tells_when_it_was_asked_for_not_when_it_is_read() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(9))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            began = trio.current_time()
            await listing.page_at(START)
            await trio.sleep(100)
            ahead, later = await listing.page_at(3), await listing.page_at(6)
            assert ahead is not None
            assert later is not None
            assert ahead[0].asked.at == began
            assert later[0].asked.at == began + 100
            listing.close()

    run(main)


def test_the_oldest_page_is_known_while_it_is_still_on_its_way() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(9))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            began = trio.current_time()
            bucket.held = first = trio.Event()
            nursery.start_soon(listing.page_at, START)
            await trio.sleep(10)
            assert listing.asked.at == began
            bucket.held = second = trio.Event()
            first.set()
            await trio.sleep(10)  # the first is here, the next one is being fetched ahead
            assert listing.asked.at == began
            nursery.start_soon(listing.page_at, 3)
            await trio.sleep(10)
            assert listing.asked.at == began
            bucket.held = None
            second.set()
            await trio.testing.wait_all_tasks_blocked()
            assert listing.asked.at == began + 10, "when the second was asked for"
            listing.close()
            assert listing.asked.at == trio.current_time()

    run(main)


@pytest.mark.parametrize("place", [0, 2, 3, 5, 9])
def test_under_another_prefix_it_goes_on_from_the_same_place(place: int) -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(9))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            first = await told(listing, START, place) if place else []
            for key in numbered(9):
                bucket.store.put(b"moved/" + key, [b""], deadline=1e9)
                bucket.remove(key)
            bucket.add(b"0000-stranger")
            listing.follow(PREFIX)
            listing.follow(b"moved/")
            cookie = first[-1][1] if first else START
            assert await names(listing, cookie) == numbered(9)[place:]
            if first:
                assert await told(listing, first[0][1], place - 1) == first[1:], "numbers stay"
            listing.rewind()
            assert await names(listing) == numbered(9)
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_rewinding_and_closing_call_off_the_page_ahead() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(9))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            await listing.page_at(START)
            bucket.held = trio.Event()
            await trio.testing.wait_all_tasks_blocked()
            listing.rewind()
            bucket.held = None
            bucket.add(b"0000-new")
            assert await names(listing) == sorted([*numbered(9), b"0000-new"])
            listing.rewind()
            await listing.page_at(START)
            bucket.held = trio.Event()
            await trio.testing.wait_all_tasks_blocked()
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_a_page_that_failed_is_an_error_once_and_then_asked_for_again() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(8))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            bucket.fail = down
            with pytest.raises(StoreError):
                await listing.page_at(START)
            bucket.fail = lambda: None
            assert await names(listing, START, 1) == [b"0000"]
            bucket.fail = down
            await trio.testing.wait_all_tasks_blocked()  # the page ahead fails unseen
            bucket.fail = lambda: None
            with pytest.raises(StoreError):
                await listing.page_at(3)
            assert await names(listing, 3) == numbered(8)[3:]
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_an_unforeseen_failure_ahead_is_logged_and_the_page_asked_for_again(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("unexpected failure while listing")

    def broken() -> None:
        raise KeyError("a mistake of ours")

    async def main() -> None:
        bucket = Bucket(*numbered(5))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            await listing.page_at(START)
            bucket.fail = broken
            await trio.testing.wait_all_tasks_blocked()
            bucket.fail = lambda: None
            assert await names(listing) == numbered(5)
            listing.close()

    run(main)


def test_a_seek_that_failed_leaves_every_cookie_as_it_was() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(20), b"0004/x", b"0004-/x")
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            known = await told(listing)
            texts = [name for name, _ in known]
            assert texts == sorted([*numbered(20), b"0004-/"])
            held = bucket.charged
            bucket.fail = down
            for position in (7, 2, 0):
                with pytest.raises(StoreError):
                    await listing.page_at(known[position][1])
            bucket.fail = lambda: None
            assert bucket.charged == held
            assert await names(listing, known[-2][1]) == texts[-1:]
            assert bucket.charged == held
            for position in (16, 9, 5, 1, 0, 12, 18):
                assert await told(listing, known[position][1]) == known[position + 1 :]
            assert await told(listing) == known
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_a_cookie_stays_right_when_names_before_it_come_and_go() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(20))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            cookies = dict(await told(listing))
            bucket.remove(b"0003")
            bucket.remove(b"0012")
            bucket.add(b"0007-new")
            expected = sorted([*numbered(3), *numbered(20)[4:12], *numbered(20)[13:], b"0007-new"])
            await names(listing, cookies[b"0001"], 8)  # back, over what has changed
            for name, cookie in cookies.items():  # and forward, and to what is gone
                assert await names(listing, cookie) == [other for other in expected if other > name]
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_seeking_about_costs_memory_once() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(50))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            known = await told(listing)
            await names(listing, known[10][1])
            held = bucket.charged
            for position in [*range(0, 50, 7), *range(49, 0, -5)]:
                assert await told(listing, known[position][1]) == known[position + 1 :]
            assert bucket.charged == held
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_the_pages_held_are_counted_and_given_back() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(9))
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            await listing.page_at(START)
            one = bucket.charged
            assert one > 3 * 4, "more than the names"
            await trio.testing.wait_all_tasks_blocked()
            assert one < bucket.charged < 2 * one + 1, "the page ahead"
            await told(listing)
            assert bucket.charged < 2 * one, "pages that were read are let go"
            listing.close()
        assert bucket.charged == 0

    run(main)


def test_a_cookie_of_another_handle_is_reached_by_reading_on() -> None:
    async def main() -> None:
        bucket = Bucket(*numbered(20))
        async with trio.open_nursery() as nursery:
            first, second = bucket.listing(nursery), bucket.listing(nursery)
            known = await told(first)
            assert await told(second, known[13][1]) == known[14:]
            assert await second.page_at(known[-1][1] + 5) is None
            first.close()
            second.close()

    run(main)


def test_a_file_hides_its_directory_across_pages_and_across_seeks() -> None:
    between = [b"a%c%d" % (mark, number) for mark in b" !,-." for number in range(4)]
    whole = [b"a", *sorted(between), b"ab"]

    async def main() -> None:
        bucket = Bucket(b"a", b"a/x", *between, b"ab")
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            known = await told(listing)
            assert [name for name, _ in known] == whole
            for position in range(len(whole) - 1, -1, -1):
                assert await told(listing, known[position][1]) == known[position + 1 :]
            bucket.remove(b"a")
            for position in range(len(whole) - 1, -1, -1):
                assert await names(listing, known[position][1]) == whole[position + 1 :], (
                    "the name has been handed out: what it stands for now makes no second one"
                )
            listing.rewind()
            assert await names(listing) == [*sorted(between), b"a/", b"ab"]
            listing.close()

    run(main)


def test_keys_no_path_can_hold_are_told_and_pages_of_nothing_else_are_passed() -> None:
    odd = [b"%s/x" % (b"n" * 256), *(b"/%d" % number for number in range(9)), b"../x"]

    async def main() -> None:
        bucket = Bucket(b"", b"a", *odd, b"z", size=1)
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            assert await names(listing) == [b"a", b"z"]
            assert sorted(bucket.skipped) == [
                PREFIX + b"../",
                PREFIX + b"/",
                PREFIX + b"n" * 256 + b"/",
            ]
            assert await names(listing, 1) == [b"z"]
            assert await names(listing) == [b"a", b"z"]
            listing.close()
        assert bucket.charged == 0

    run(main)


KEYS = [
    head + tail
    for head in (b"a", b"a!", b"a-", b"a-1", b"a0", b"ab", b"b", b"b.", b"b.c", b"c")
    for tail in (b"", b"/x")
]


@given(
    st.sets(st.sampled_from(KEYS), min_size=1),
    st.integers(1, 5),
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "seek", "rewind", "read"]),
            st.integers(0, len(KEYS) - 1),
        ),
        max_size=15,
    ),
)
def test_whatever_changes_each_name_comes_once_and_what_stays_always_comes(
    keys: set[bytes], size: int, steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        bucket = Bucket(*keys, size=size)
        here = set(keys)
        stayed = set(keys)  # since the listing began
        ever = set(keys)
        cookies: Told = [(b"", START)]  # of all names told since then
        since: bytes = b""  # the name last sought
        got: Told = []  # after it
        async with trio.open_nursery() as nursery:
            listing = bucket.listing(nursery)
            for what, number in [*steps, ("read", 99)]:
                key = KEYS[number % len(KEYS)]
                if what == "add":
                    bucket.add(key)
                    here.add(key)
                    ever.add(key)
                elif what == "remove":
                    bucket.remove(key)
                    here.discard(key)
                    stayed.discard(key)
                elif what == "rewind":
                    listing.rewind()
                    stayed, ever = set(here), set(here)
                    cookies, since, got = [(b"", START)], b"", []
                else:
                    if what == "seek":
                        since, cookie = cookies[number % len(cookies)]
                        got = []
                    else:
                        cookie = got[-1][1] if got else dict(cookies)[since]
                    got += await told(listing, cookie, 10**9 if number == 99 else 4)
                    cookies = list(dict([*cookies, *got]).items())
                assert len({cookie for _, cookie in cookies}) == len(cookies)
                texts = [name for name, _ in got]
                assert len({text.rstrip(b"/") for text in texts}) == len(texts)
                assert texts == sorted(texts)
                assert set(texts) <= {key.removesuffix(b"x") for key in ever}
                assert all(text > since for text in texts)
            before = {name.rstrip(b"/") for name, _ in cookies if name <= since}
            shown = {name.rstrip(b"/") for name, _ in got}
            still = {key.partition(b"/")[0] for key in stayed if key.removesuffix(b"x") > since}
            assert still <= shown | before
            listing.close()
        assert bucket.charged == 0

    run(main)
