"""What answers may be older than our own changes, and how long that is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.tree.changes import Asked, LocalChanges
from ossfs.tree.inodes import Directory, InodeTable


def directories() -> tuple[Directory, Directory]:
    table = InodeTable(b"")
    below = table.add(Directory, table.root, b"d")
    assert isinstance(below, Directory)
    return table.root, below


def test_an_answer_asked_for_before_a_change_may_be_older_and_one_after_it_is_not() -> None:
    root, below = directories()
    changes = LocalChanges(lambda _parent, _name: None)
    assert not changes
    before = Asked(changes.last, 0.0)
    changes.note(root, b"f")
    after = Asked(changes.last, 0.0)  # the clock has not moved
    assert changes
    assert changes.since(root, b"f", before)
    assert not changes.since(root, b"f", after)
    assert not changes.since(root, b"g", before)
    assert not changes.since(below, b"f", before), "another directory's"
    changes.note(root, b"f")
    assert changes.since(root, b"f", after)


def test_what_no_answer_on_its_way_can_contradict_is_forgotten() -> None:
    root, _ = directories()
    changes = LocalChanges(lambda _parent, _name: None)
    for name in (b"a", b"b", b"a", b"c"):
        changes.note(root, name)
    changes.forget_until(2)
    start = Asked(0, 0.0)
    assert [changes.since(root, name, start) for name in (b"a", b"b", b"c")] == [True, False, True]
    changes.forget_until(changes.last)
    assert not changes
    assert changes.last == 4, "numbers go on"


def test_no_more_than_so_many_are_kept_and_beyond_them_old_answers_are_doubted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ossfs.tree.changes.MOST", 3)
    root, _ = directories()
    changes = LocalChanges(lambda _parent, _name: None)
    start = Asked(0, 0.0)
    for number in range(5):
        changes.note(root, b"%d" % number)
    assert len(changes._changed) == 3
    assert all(changes.since(root, b"%d" % number, start) for number in range(5))
    assert changes.since(root, b"other", start), "it may be one of those forgotten"
    later = Asked(2, 0.0)
    assert not changes.since(root, b"1", later)
    assert not changes.since(root, b"other", later)
    assert changes.since(root, b"2", later)
    changes.forget_until(changes.last)
    assert not changes.since(root, b"4", Asked(changes.last, 0.0))


def test_of_two_askings_the_earlier_one_is_the_lesser_whatever_the_clock_says() -> None:
    assert min(Asked(2, 1.0), Asked(1, 5.0)).change == 1


@given(st.lists(st.tuples(st.sampled_from(["note", "ask", "answer", "sweep"]), st.integers(0, 5))))
def test_an_answer_is_doubted_exactly_when_its_name_changed_after_it_was_asked_for(
    steps: list[tuple[str, int]],
) -> None:
    """Against a model: names are numbers; answers are taken in any order, sweeps come between."""
    root, _ = directories()
    changes = LocalChanges(lambda _parent, _name: None)
    noted: list[int] = []
    asked: list[tuple[Asked, int]] = []
    for step, number in steps:
        if step == "note":
            changes.note(root, b"%d" % number)
            noted.append(number)
        elif step == "ask":
            asked.append((Asked(changes.last, 0.0), len(noted)))
        elif step == "answer" and asked:
            when, place = asked.pop(number % len(asked))
            for name in range(6):
                assert changes.since(root, b"%d" % name, when) == (name in noted[place:])
        elif step == "sweep":
            changes.forget_until(min([changes.last, *(when.change for when, _ in asked)]))
            if not asked:
                assert not changes, "nothing is kept for nobody"
