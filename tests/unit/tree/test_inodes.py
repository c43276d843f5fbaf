"""The inode table: exact lookup counts, keys by walking up, versions that never change."""

from __future__ import annotations

from ossfs.tree.inodes import ROOT, Directory, Inode, InodeTable


def directory(table: InodeTable, parent: Directory, name: bytes) -> Directory:
    made = table.add(Directory, parent, name)
    assert isinstance(made, Directory)
    return made


def test_keys_are_derived_by_walking_up() -> None:
    table = InodeTable(b"mounted/prefix/")
    folder = directory(table, table.root, b"a")
    inner = directory(table, folder, b"b")
    assert table.root.key == b"mounted/prefix/"
    assert inner.key == b"mounted/prefix/a/b/"
    assert table.add(Inode, inner, b"c").key == b"mounted/prefix/a/b/c"
    assert table.add(Inode, table.root, b"d").key == b"mounted/prefix/d"


def test_an_inode_lives_until_the_kernel_forgets_it_and_takes_its_parents_along() -> None:
    table = InodeTable(b"")
    folder = directory(table, table.root, b"a")
    inner = directory(table, folder, b"b")
    file = table.add(Inode, inner, b"c")
    for inode in (folder, inner, file):
        inode.lookups = 2
    table.forget(folder.number, 2)
    table.forget(inner.number, 2)
    assert len(table) == 4, "a directory with children stays"
    table.forget(file.number, 1)
    assert len(table) == 4
    table.forget(file.number, 1)
    assert len(table) == 1
    assert table.root.children == {}


def test_an_open_inode_outlives_its_lookups() -> None:
    table = InodeTable(b"")
    file = table.add(Inode, table.root, b"f")
    file.lookups, file.opened = 1, object()
    table.forget(file.number, 1)
    assert file in table
    file.opened = None
    table.release(file)
    assert file not in table


def test_a_new_version_takes_the_name_and_the_old_one_lives_on() -> None:
    table = InodeTable(b"")
    old = table.add(Inode, table.root, b"f")
    old.lookups = 1
    new = table.add(Inode, table.root, b"f")
    new.lookups = 1
    assert not old.attached
    assert new.attached
    assert table[old.number] is old
    assert table[new.number] is new
    table.forget(old.number, 1)
    assert table.root.children == {b"f": new}


def test_a_version_of_a_name_has_the_same_number_each_time_and_another_one_another() -> None:
    table = InodeTable(b"")
    other = table.add(Directory, table.root, b"d")
    assert isinstance(other, Directory)
    other.lookups = 1
    numbers: dict[tuple[int, bytes, str], int] = {}
    for _ in range(2):
        for parent in (table.root, other):
            for name in (b"f", b"g", b"\xff"):
                for version in ("", "A" * 32, "B" * 32, "C-2"):
                    inode = table.add(Inode, parent, name, version)
                    assert inode.etag == version
                    identity = parent.number, name, version
                    assert numbers.setdefault(identity, inode.number) == inode.number
                    table.release(inode)
    assert len(set(numbers.values())) == len(numbers)
    assert min(numbers.values()) > ROOT


def test_two_inodes_of_one_name_and_version_have_two_numbers_while_both_live() -> None:
    table = InodeTable(b"")
    first = table.add(Inode, table.root, b"f", "A")
    first.lookups = 1
    second = table.add(Inode, table.root, b"f", "A")
    assert first.number != second.number
    assert table[first.number] is first
    assert table[second.number] is second


def test_every_etag_comes_back_as_it_went_in() -> None:
    inode = Inode(2, None, b"f")
    for etag in (
        "",
        "65BE2BC0B6D86630AEE8F3DB31E79C71",
        "65be2bc0b6d86630aee8f3db31e79c71",
        "0" * 32,
        "ABC-12",
        "Z" * 32,
        "65BE2BC0B6D86630 EE8F3DB31E79C71",
    ):
        inode.etag = etag
        assert inode.etag == etag


def test_the_root_is_never_forgotten() -> None:
    table = InodeTable(b"")
    table.forget(ROOT, 100)
    assert table.root in table
    table.forget(12345, 1)  # a number nobody knows is no error


def test_what_nobody_holds_goes_with_its_name() -> None:
    table = InodeTable(b"")
    table.add(Inode, table.root, b"f")
    new = table.add(Inode, table.root, b"f")
    assert list(table) == [table.root, new]
    folder = directory(table, table.root, b"d")
    file = table.add(Inode, folder, b"x")
    file.lookups = 1
    table.detach(file)
    assert folder not in table, "a directory nobody knows stayed only for its child"
    assert file in table
    table.forget(file.number, 1)
    assert list(table) == [table.root, new]


def test_a_directory_being_listed_stays_though_it_was_forgotten() -> None:
    table = InodeTable(b"")
    folder = directory(table, table.root, b"d")
    folder.lookups = folder.listings = 1
    table.forget(folder.number, 1)
    assert folder in table
    folder.listings = 0
    table.release(folder)
    assert len(table) == 1


def test_releasing_one_that_has_gone_takes_nothing_from_its_successor() -> None:
    """The same version found again has the same number."""
    table = InodeTable(b"")
    first = table.add(Inode, table.root, b"name", "version")
    first.lookups = 1
    table.forget(first.number, 1)
    again = table.add(Inode, table.root, b"name", "version")
    again.lookups = 1
    assert again.number == first.number
    table.release(first)
    assert again in table
