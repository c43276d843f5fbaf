"""Listings that several handles read: who joins whom, what is held for them, and when that ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
import trio
import trio.testing

from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import Unavailable
from ossfs.tree.changes import Asked
from ossfs.tree.shared import JOIN, PAGE_ENTRY, Fetch, SharedListings, Walk
from tests.support.core import run

PAGES = 5
NAMES = 10
SIZE = PAGE_ENTRY * NAMES
TOKENS = [None, *map(str, range(1, PAGES))]


class Made:
    """Shared listings of directories whose every name has the version of its directory."""

    def __init__(self, *, life: float = 0.0, room: int = 1 << 30) -> None:
        self.shared = SharedListings(self.now, self._charge, room)
        self.shared.life = life
        self.change = 0
        self.held = self.most = 0
        self.versions: Counter[bytes] = Counter()
        self.fetched: list[str | None] = []
        self.under_way: Counter[tuple[Walk | None, str | None]] = Counter()

    def now(self) -> Asked:
        return Asked(self.change, trio.current_time())

    def _charge(self, size: int) -> None:
        self.held += size
        self.most = max(self.most, self.held)
        assert self.held >= 0

    def begin(self, prefix: bytes = b"d/", patience: float = 60, left: Walk | None = None) -> Walk:
        return self.shared.begin(prefix, patience, left)

    def alter(self, prefix: bytes, name: bytes = b"x") -> None:
        """Change a name here: in the bucket first, then to everybody's knowledge."""
        self.versions[prefix] += 1
        self.change += 1
        self.shared.changed(prefix, name)

    def fetch(self, walk: Walk, token: str | None, seconds: float = 0.1) -> Fetch:
        """Return the request for a page, which is answered as things are when it arrives."""

        async def fetch() -> ListPage:
            shared = walk if not walk.over else None
            self.under_way[shared, token] += 1
            assert shared is None or self.under_way[shared, token] == 1, "asked for twice at once"
            self.fetched.append(token)
            number, etag = TOKENS.index(token), str(self.versions[walk.prefix])
            try:
                await trio.sleep(seconds)
            finally:
                self.under_way[shared, token] -= 1
            entries = [ListEntry(b"%d-%d" % (number, i), 1, 0, etag) for i in range(NAMES)]
            following = TOKENS[number + 1] if number + 1 < PAGES else None
            return ListPage(entries, [], following)

        return fetch

    async def page(self, walk: Walk, token: str | None = None, seconds: float = 0.1) -> ListPage:
        page, asked = await walk.page(token, self.fetch(walk, token, seconds))
        assert asked.at <= trio.current_time()
        return page

    async def read(self, walk: Walk, pause: Callable[[], float] = lambda: 0.0) -> list[int]:
        """Read all pages; return the version that each one shows."""
        versions, token = [], None
        while True:
            page = await self.page(walk, token)
            assert [entry.key for entry in page.entries] == [
                b"%d-%d" % (len(versions), i) for i in range(NAMES)
            ]
            versions.append(int(page.entries[0].etag))
            token = page.next_token
            if token is None:
                return versions
            await trio.sleep(pause())


# Who joins


@pytest.mark.parametrize(
    ("age", "life", "patience", "others", "joins"),
    [
        (0.0, 0, 60, True, True),
        (JOIN - 0.01, 0, 60, True, True),
        (JOIN, 0, 60, True, False),
        (0.0, 0, 60, False, False),
        (0.0, 0, 0, True, False),
        (0.4, 0, 0.5, True, True),
        (0.5, 0, 0.5, True, False),
        (99.9, 100, 60, False, True),
        (99.9, 100, 0, False, True),
        (99.9, 100, 60, True, True),
        (100.0, 100, 60, False, False),
        (100.0, 100, 60, True, False),
        (0.1, 0.2, 60, False, True),
        (0.3, 0.2, 60, True, True),
        (0.3, 0.2, 60, False, False),
    ],
)
def test_a_walk_is_joined_while_it_is_young_enough(
    age: float, life: float, patience: float, others: bool, joins: bool
) -> None:
    async def main() -> None:
        made = Made(life=life)
        first = made.begin()
        if not others:
            first.leave()
        await trio.sleep(age)
        assert (made.begin(patience=patience) is first) == joins
        assert made.begin(b"other/") is not first

    run(main)


@pytest.mark.parametrize("life", [0, 100])
@pytest.mark.parametrize("others", [False, True])
def test_who_lists_anew_what_he_has_listed_joins_himself_only_within_its_life(
    life: float, others: bool
) -> None:
    async def main() -> None:
        made = Made(life=life)
        own = made.begin()
        if others:
            made.begin()
        again = made.begin(left=own)
        assert (again is own) == bool(life)
        assert again.users == 1 + (others and bool(life))

    run(main)


def test_who_lists_anew_may_join_one_that_began_after_his_own() -> None:
    async def main() -> None:
        made = Made()
        own = made.begin()
        made.shared.changed(b"d/", b"x")
        theirs = made.begin()
        assert made.begin(left=own) is theirs
        assert (own.users, theirs.users) == (0, 2)

    run(main)


# What is fetched


def test_each_page_is_fetched_once_for_many_who_read_at_different_speeds() -> None:
    async def main() -> None:
        made = Made()
        done = []

        async def one(number: int) -> None:
            walk = made.begin()
            done.append(await made.read(walk, lambda: number * 0.07))
            walk.leave()

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(one, number)
        assert done == [[0] * PAGES] * 8
        assert sorted(made.fetched, key=TOKENS.index) == TOKENS
        assert (made.most, made.held) == (PAGES * SIZE, 0)

    run(main)


@pytest.mark.parametrize("life", [0.0, 1.1])
def test_one_who_comes_too_late_to_join_takes_nothing_from_those_who_have(life: float) -> None:
    async def main() -> None:
        made = Made(life=life)

        async def one(delay: float) -> None:
            await trio.sleep(delay)
            walk = made.begin()
            assert await made.read(walk, lambda: 0.5) == [0] * PAGES
            walk.leave()

        async with trio.open_nursery() as nursery:
            for delay in (0, 0.1, 0.2, 0.3, 1.2):
                nursery.start_soon(one, delay)
        assert Counter(made.fetched) == dict.fromkeys(TOKENS, 2), "the four, and the fifth"
        await trio.sleep(life)
        made.shared.sweep()
        assert made.held == 0

    run(main)


def test_a_kept_listing_costs_nothing_until_its_life_is_over_and_is_swept_then() -> None:
    async def main() -> None:
        made = Made(life=10)
        for _ in range(3):
            walk = made.begin()
            await made.read(walk)
            walk.leave()
        assert made.fetched == TOKENS
        begun = walk.asked.at
        await trio.sleep(begun + 9.9 - trio.current_time())
        made.shared.sweep()
        assert made.held == PAGES * SIZE
        users = [made.begin() for _ in range(2)]
        await trio.sleep(0.2)
        made.shared.sweep()
        assert made.held, "somebody is on it still"
        for user in users:
            user.leave()
        made.shared.sweep()
        assert not made.shared
        assert made.held == 0

    run(main)


def test_nothing_is_held_for_one_who_is_alone_and_whom_nobody_can_join_any_more() -> None:
    async def main() -> None:
        made = Made()
        walk = made.begin()
        await made.page(walk)
        assert made.held == SIZE
        await trio.sleep(JOIN)
        await made.page(walk, "1")
        assert made.held == 0
        assert await made.read(walk) == [0] * PAGES

    run(main)


def test_a_life_that_ends_by_a_reload_ends_what_is_kept() -> None:
    async def main() -> None:
        made = Made(life=100)
        walk = made.begin()
        await made.read(walk)
        walk.leave()
        made.shared.life = 0
        made.shared.sweep()
        assert made.held == 0
        assert not made.shared

    run(main)


def test_an_error_reaches_all_who_wait_and_the_next_one_asks_again() -> None:
    async def main() -> None:
        made = Made()
        walks = [made.begin() for _ in range(4)]
        refused = 0

        async def fail() -> ListPage:
            made.fetched.append("failed")
            await trio.sleep(1)
            raise Unavailable("busy")

        async def one(walk: Walk) -> None:
            nonlocal refused
            with pytest.raises(Unavailable):
                await walk.page(None, fail)
            refused += 1

        async with trio.open_nursery() as nursery:
            for walk in walks:
                nursery.start_soon(one, walk)
        assert refused == 4
        assert await made.read(walks[0]) == [0] * PAGES
        assert made.fetched == ["failed", *TOKENS]

    run(main)


def test_one_who_is_cancelled_while_he_fetches_hands_over_to_the_next() -> None:
    async def main() -> None:
        made = Made()
        first, second = made.begin(), made.begin()
        pages = []

        async def impatient() -> None:
            with trio.move_on_after(1):
                await made.page(first, seconds=5)
            first.leave()

        async def patient() -> None:
            pages.append(await made.page(second, seconds=5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(patient)
        assert trio.current_time() == 6
        assert made.fetched == [None, None]
        assert len(pages) == 1
        second.leave()
        assert made.held == 0

    run(main)


# Room


@pytest.mark.parametrize("room", [0, SIZE // 2, SIZE, 3 * SIZE])
def test_never_more_is_held_than_there_is_room_for_and_everybody_gets_his_pages(room: int) -> None:
    async def main() -> None:
        made = Made(room=room)

        async def one(number: int) -> None:
            walk = made.begin(b"%d/" % (number % 2))
            assert await made.read(walk, lambda: number * 0.3) == [0] * PAGES
            assert made.held <= room
            walk.leave()

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(one, number)
        assert made.most <= room + SIZE
        assert made.held == 0

    run(main)


def test_what_was_held_longest_goes_first_and_is_fetched_again() -> None:
    async def main() -> None:
        made = Made(life=100, room=3 * SIZE)
        walk = made.begin()
        await made.read(walk)
        made.fetched.clear()
        for token in TOKENS[2:]:
            await made.page(walk, token)
        assert made.fetched == []
        await made.page(walk, None)
        await made.page(walk, "2")
        assert made.fetched == [None, "2"]

    run(main)


# Changes


@pytest.mark.parametrize("life", [0, 100])
def test_a_change_here_gives_the_memory_back_and_nobody_new_joins(life: float) -> None:
    async def main() -> None:
        made = Made(life=life)
        first, second, other = made.begin(), made.begin(), made.begin(b"o/")
        await made.page(first)
        await made.page(other)
        made.alter(b"d/")
        assert made.held == SIZE, "only the other directory's"
        assert made.begin(b"o/") is other
        made.fetched.clear()
        for walk in (first, second):
            assert await made.read(walk) == [1] * PAGES
        assert made.fetched == TOKENS * 2, "those on it fetch by themselves"
        assert made.held == SIZE
        new = made.begin()
        assert new is not first
        await made.read(new)
        for walk in (first, second, new):
            walk.leave()
        assert made.held == SIZE + bool(life) * PAGES * SIZE
        assert made.begin().asked == (new.asked if life else made.now())

    run(main)


def test_a_page_that_is_on_its_way_at_a_change_is_for_those_who_wait_for_it_alone() -> None:
    async def main() -> None:
        made = Made(life=100)
        walk, versions = made.begin(), []

        async def one() -> None:
            versions.append((await made.page(walk, seconds=1)).entries[0].etag)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)
            await trio.sleep(0.5)
            made.alter(b"d/")
            assert (await made.page(made.begin())).entries[0].etag == "1"
        assert versions == ["0"] * 3
        assert made.fetched == [None, None]
        assert made.held == SIZE, "the later one's"

    run(main)


def test_a_change_of_a_directory_ends_its_own_listing_too_and_a_rename_ends_all() -> None:
    async def main() -> None:
        made = Made(life=100)
        walks = {prefix: made.begin(prefix) for prefix in (b"", b"d/", b"d/e/", b"dd/")}
        for walk in walks.values():
            await made.page(walk)
        made.shared.changed(b"", b"d")
        assert [walk.over for walk in walks.values()] == [True, True, False, False]
        made.shared.clear()
        assert all(walk.over for walk in walks.values())
        assert not made.shared
        assert made.held == 0

    run(main)


# Everything at once


@pytest.mark.parametrize("seed", range(40))
def test_a_listing_that_begins_after_a_change_shows_it_and_all_memory_comes_back(seed: int) -> None:
    chance = random.Random(seed)
    life, patience = chance.choice([0.0, 0.0, 0.3, 2.0]), chance.choice([0.0, 0.4, 60.0])
    room = chance.choice([0, 2 * SIZE, 8 * SIZE, 1 << 30])
    prefixes = [b"a/", b"a/b/", b"c/"]

    async def main() -> None:
        made = Made(life=life, room=room)

        async def user(number: int) -> None:
            mine, walk = random.Random(seed * 100 + number), None
            for _ in range(12):
                prefix = mine.choice(prefixes)
                known, began = made.versions[prefix], trio.current_time()
                if walk is not None and mine.random() < 0.5:
                    prefix, known = walk.prefix, made.versions[walk.prefix]
                    walk = made.begin(prefix, patience, walk)
                else:
                    if walk is not None:
                        walk.leave()
                    walk = made.begin(prefix, patience)
                assert not walk.over
                assert began - walk.asked.at < max(min(JOIN, patience), life) or (
                    walk.asked.at == began
                )
                with trio.move_on_after(mine.uniform(0, 3)):
                    versions = await made.read(walk, lambda: mine.uniform(0, 0.3))
                    assert min(versions) >= known
                if mine.random() < 0.3:
                    walk.leave()
                    walk = None
                await trio.sleep(mine.uniform(0, 1))
            if walk is not None:
                walk.leave()

        async def changing(scope: trio.CancelScope) -> None:
            with scope:
                while True:
                    await trio.sleep(chance.uniform(0, 1.5))
                    if chance.random() < 0.1:
                        for prefix in prefixes:
                            made.versions[prefix] += 1
                        made.shared.clear()
                    else:
                        made.alter(chance.choice(prefixes))
                    made.shared.sweep()

        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(changing, scope)
            async with trio.open_nursery() as users:
                for number in range(8):
                    users.start_soon(user, number)
            scope.cancel()
        assert made.most <= room + SIZE
        await trio.sleep(life)
        made.shared.sweep()
        assert not made.shared
        assert made.held == 0

    run(main)
