"""Absences: how long they are believed, and what ends them."""

from __future__ import annotations

from ossfs.tree.absences import Absences
from ossfs.tree.inodes import Inode, InodeTable


class Now:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_an_absence_is_believed_for_its_time() -> None:
    now = Now()
    absences = Absences(30, 10, now)
    absences.add(b"a")
    assert b"a" in absences
    now.seconds += 29
    assert b"a" in absences
    now.seconds += 2
    assert b"a" not in absences


def test_the_least_recently_wanted_one_makes_room() -> None:
    absences = Absences(30, 2, Now())
    for key in (b"a", b"b", b"c"):
        absences.add(key)
    assert [key in absences for key in (b"a", b"b", b"c")] == [False, True, True]


def test_no_time_remembers_nothing() -> None:
    absences = Absences(0, 10, Now())
    absences.add(b"a")
    assert b"a" not in absences
    assert not absences.remembered


def test_a_name_that_gets_an_inode_is_no_absence() -> None:
    absences = Absences(30, 10, Now())
    table = InodeTable(b"prefix/", absences)
    absences.add(b"prefix/a")
    absences.add(b"prefix/b")
    table.add(Inode, table.root, b"a")
    assert b"prefix/a" not in absences
    assert b"prefix/b" in absences


def test_a_renamed_one_ends_them_all() -> None:
    absences = Absences(30, 10, Now())
    table = InodeTable(b"", absences)
    inode = table.add(Inode, table.root, b"a")
    absences.add(b"b")
    table.move(inode, table.root, b"b")
    assert b"b" not in absences
