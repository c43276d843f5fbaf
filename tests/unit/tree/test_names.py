"""Two sequences of a listing become names, each once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ossfs.store.api import ListEntry, ListPage
from ossfs.tree.names import PageNames, speakable


def page(prefix: bytes, keys: list[bytes], prefixes: list[bytes]) -> ListPage:
    return ListPage(
        [ListEntry(prefix + key, 1, 1, "E") for key in sorted(keys)],
        [prefix + name for name in sorted(prefixes)],
        None,
    )


def names(pages: list[ListPage], prefix: bytes = b"p/") -> list[tuple[bytes, bool]]:
    merge = PageNames(prefix)
    return [(name, entry is None) for one in pages for name, entry in merge.names(one)]


def test_what_a_path_cannot_hold() -> None:
    for name in (b"", b".", b"..", b"a/b", b"a\0b", b"n" * 256):
        assert not speakable(name)
    for name in (b"...", b" ", b"n" * 255, "größe".encode(), b"\n"):
        assert speakable(name)


def test_files_and_directories_come_in_key_order() -> None:
    assert names([page(b"p/", [b"b", b"d"], [b"a/", b"c/"])]) == [
        (b"a", True),
        (b"b", False),
        (b"c", True),
        (b"d", False),
    ]


def test_a_file_hides_a_directory_of_its_name_even_pages_later() -> None:
    between = [b"a-%d" % number for number in range(5)]
    pages = [
        page(b"p/", [b"a"], []),
        page(b"p/", between, []),
        page(b"p/", [], [b"a/"]),
        page(b"p/", [b"b"], [b"b/"]),
    ]
    assert names(pages) == [(name, False) for name in (b"a", *between, b"b")]


def test_the_marker_of_the_directory_itself_is_no_name() -> None:
    assert names([page(b"p/", [b"", b"x"], [])]) == [(b"x", False)]


def test_unspeakable_keys_are_told_apart() -> None:
    merge = PageNames(b"p/")
    found = list(merge.names(page(b"p/", [b".", b"fine"], [b"/", b"../"])))
    assert [name for name, _ in found] == [b"fine"]
    assert sorted(merge.skipped) == [b"p/.", b"p/../", b"p//"]


@given(
    st.sets(st.text(alphabet="ab-/0", min_size=1, max_size=5)),
    st.integers(1, 4),
)
def test_any_set_of_keys_in_pages_of_any_size_gives_each_name_once(
    texts: set[str], size: int
) -> None:
    keys = sorted(text.encode() for text in texts)
    items: list[bytes] = []  # as a store groups them: keys, and prefixes once
    for key in keys:
        head, slash, _ = key.partition(b"/")
        item = head + slash
        if not items or items[-1] != item:
            items.append(item)
    pages = []
    for start in range(0, len(items), size):
        part = items[start : start + size]
        pages.append(
            page(
                b"p/",
                [item for item in part if not item.endswith(b"/")],
                [item for item in part if item.endswith(b"/")],
            )
        )
    files = {key for key in keys if b"/" not in key}
    folders = {key.partition(b"/")[0] for key in keys if b"/" in key} - files - {b""}
    found = names(pages)
    assert sorted(found) == sorted(
        [(name, False) for name in files] + [(name, True) for name in folders]
    )
