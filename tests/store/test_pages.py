"""Conformance: listing, its order, its pages and what an entry tells."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ossfs.store.errors import Invalid

NAMES = st.lists(
    st.text(alphabet="ab/é+ ", min_size=1, max_size=6).map(str.encode),
    max_size=15,
    unique=True,
)


def put_all(store, prefix: bytes, names) -> None:
    for name in names:
        store.put(prefix + name, [b"x"])


def walk(store, prefix: bytes, **parameters) -> tuple[list[bytes], list[bytes], list[int]]:
    """Page through a listing; return keys, common prefixes and the size of every page."""
    keys: list[bytes] = []
    prefixes: list[bytes] = []
    sizes: list[int] = []
    token = None
    while True:
        page = store.list_page(prefix, token=token, **parameters)
        keys += [entry.key for entry in page.entries]
        prefixes += page.prefixes
        sizes.append(len(page.entries) + len(page.prefixes))
        token = page.next_token
        if token is None:
            return keys, prefixes, sizes
        parameters.pop("start_after", None)


def expected(names, prefix: bytes, delimiter: bytes, start_after: bytes):
    """Say by brute force what a listing holds."""
    keys: list[bytes] = []
    prefixes: set[bytes] = set()
    for name in sorted(names):
        if not name.startswith(prefix) or name <= start_after:
            continue
        head, mark, _ = name[len(prefix) :].partition(delimiter) if delimiter else (b"", b"", b"")
        if mark:
            prefixes.add(prefix + head + mark)
        else:
            keys.append(name)
    return keys, sorted(prefixes)


@settings(max_examples=40)
@given(
    names=NAMES,
    page=st.integers(1, 7),
    delimiter=st.sampled_from([b"", b"/", b"/", b"+"]),
    within=st.sampled_from([b"", b"", b"a", b"a/", b"b/a"]),
)
def test_pages_of_any_size_add_up_to_the_listing(store, fresh, names, page, delimiter, within):
    base = fresh()
    # SeaweedFS knows the slash alone, and may lose or repeat pages with other delimiters.
    assume(store.holds(*names, base=base) and not (store.is_filer and delimiter == b"+"))
    put_all(store, base, names)
    keys, prefixes, sizes = walk(store, base + within, delimiter=delimiter, max_keys=page)
    if store.is_filer:  # which lists a/ where a would be, before a-
        keys, prefixes = sorted(keys), sorted(prefixes)
    assert (keys, prefixes) == expected([base + n for n in names], base + within, delimiter, b"")
    assert max(sizes) <= page


@settings(max_examples=25)
@given(names=NAMES, after=st.sampled_from([b"a", b"a ", b"b", b"zz", b"\xc3\xa9"]))
def test_start_after_leaves_out_what_comes_before_it_and_itself(store, fresh, names, after):
    base = fresh()
    # In its order "after" means something else where a name goes on below a slash.
    assume(store.holds(*names, base=base) and not (store.is_filer and b"/" in b"".join(names)))
    put_all(store, base, names)
    keys, _, _ = walk(store, base, delimiter=b"", start_after=base + after, max_keys=3)
    assert keys == expected([base + n for n in names], base, b"", base + after)[0]


def test_start_after_with_a_delimiter_goes_on_after_a_file(store, under):
    put_all(store, under, [b"a", b"b", b"c/1", b"c/2", b"d"])
    keys, prefixes, _ = walk(store, under, start_after=under + b"a", max_keys=2)
    assert keys == [under + b"b", under + b"d"]
    assert prefixes == [under + b"c/"]


def test_nothing_under_a_prefix_is_one_empty_page(store, under):
    page = store.list_page(under)
    assert (list(page.entries), list(page.prefixes), page.next_token) == ([], [], None)


def test_an_entry_tells_size_time_and_version(store, under):
    before = int(time.time())
    put = store.put(under + b"a", [b"12345"])
    [entry] = store.list_page(under).entries
    assert (entry.key, entry.size, entry.etag) == (under + b"a", 5, put.etag)
    assert entry.symlink is False
    assert isinstance(entry.mtime, int)
    assert before <= entry.mtime <= time.time()
    assert (
        entry.mtime == store.head(under + b"a").mtime == store.head(under + b"a", full=True).mtime
    )


def test_a_directory_is_one_prefix_however_much_is_in_it(store, under):
    put_all(store, under, [b"dir/%03d" % n for n in range(50)] + [b"file"])
    page = store.list_page(under, max_keys=2)
    assert page.prefixes == [under + b"dir/"]
    assert [entry.key for entry in page.entries] == [under + b"file"]
    assert page.next_token is None


def test_a_page_counts_files_and_directories_together(store, under):
    put_all(store, under, [b"a/x", b"b", b"c/x", b"d"])
    _, _, sizes = walk(store, under, max_keys=3)
    assert sizes == [3, 1]


def test_a_listing_that_fills_its_last_page_ends_there(store, under):
    put_all(store, under, [b"%d" % n for n in range(6)])
    assert walk(store, under, max_keys=3)[2] == [3, 3]
    assert walk(store, under, max_keys=6)[2] == [6]


def test_a_directory_that_ends_a_page_is_not_told_again(store, under):
    put_all(store, under, [b"a/1", b"a/2", b"b/1", b"b/2", b"c"])
    assert walk(store, under, max_keys=1) == (
        [under + b"c"],
        [under + b"a/", under + b"b/"],
        [1, 1, 1],
    )


def test_the_order_is_that_of_the_bytes(store, under):
    names = ["Z", "a", "a-", "a.txt", "a/", "a/b", "a0", "é", "漢", "\U0001f600", "\uffee", "~"]
    put_all(store, under, [name.encode() for name in names])
    assert store.names(under) == sorted(name.encode() for name in names)


def test_a_marker_is_a_key_inside_its_directory_and_a_prefix_outside(store, under):
    put_all(store, under, [b"dir/", b"dir/file"])
    outside = store.list_page(under)
    assert (list(outside.entries), list(outside.prefixes)) == ([], [under + b"dir/"])
    inside = store.list_page(under + b"dir/")
    assert [entry.key for entry in inside.entries] == [under + b"dir/", under + b"dir/file"]


def test_double_slashes_and_dots_are_plain_characters(store, under):
    names = [b"..", b"../x", b"./x", b"a//b", b"a/./b", b"a/../b"]
    put_all(store, under, names)
    assert store.names(under) == sorted(names)
    assert list(store.list_page(under + b"a/").prefixes) == [
        under + b"a/../",
        under + b"a/./",
        under + b"a//",
    ]


def test_a_prefix_need_not_end_at_a_slash(store, under):
    put_all(store, under, [b"ab", b"abc/d", b"ac", b"b"])
    page = store.list_page(under + b"ab")
    assert [entry.key for entry in page.entries] == [under + b"ab"]
    assert page.prefixes == [under + b"abc/"]


def test_deleting_while_paging_loses_nothing_that_stays(store, under):
    put_all(store, under, [b"%02d" % n for n in range(10)])
    first = store.list_page(under, max_keys=4)
    store.delete_many([under + b"%02d" % n for n in (1, 3, 4, 5)])
    rest = store.list_page(under, token=first.next_token, max_keys=100)
    assert [entry.key for entry in rest.entries] == [under + b"%02d" % n for n in (6, 7, 8, 9)]


def test_an_object_made_ahead_of_the_cursor_is_seen_and_one_behind_is_not(store, under):
    put_all(store, under, [b"b", b"d", b"f"])
    first = store.list_page(under, max_keys=2)
    put_all(store, under, [b"a", b"g"])
    rest = store.list_page(under, token=first.next_token)
    assert [entry.key for entry in rest.entries] == [under + b"f", under + b"g"]


@pytest.mark.parametrize("size", [0, -1, 1_001])
def test_a_page_size_that_no_store_has_is_invalid(store, under, size):
    with pytest.raises(Invalid):
        store.list_page(under, max_keys=size)


def test_a_token_of_nowhere_is_invalid(store, under):
    with pytest.raises(Invalid):
        store.list_page(under, token="no token at all!")


def test_probing_answers_for_any_prefix_of_a_bucket_that_is_there(store, under):
    assert store.probe(b"") is None
    assert store.probe(under + b"nothing here/") is None
