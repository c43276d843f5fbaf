"""Conformance: append, copy, delete and symlinks."""

from __future__ import annotations

import pytest
from fastcrc import crc64

from ossfs.store.api import ObjectType, PutOptions
from ossfs.store.errors import Changed, Exists, Invalid, NotAppendable, NotFound, PositionConflict

# -- append -----------------------------------------------------------------------------------


@pytest.mark.needs("append")
def test_appends_grow_an_object_that_can_be_read_at_any_time(store, under):
    key = under + b"log"
    content = b""
    etags = set()
    for piece in (b"one,", b"two,", b"three"):
        reply = store.append(key, len(content), [piece[:2], piece[2:]])
        content += piece
        etags.add(reply.etag)
        assert (reply.next_position, reply.crc64) == (len(content), crc64.xz(content))
        assert store.read(key, 0, len(content), if_match=reply.etag) == content
    info = store.head(key, full=True)
    assert (info.type, info.size, info.crc64) == (ObjectType.APPENDABLE, 13, crc64.xz(content))
    assert len(etags) == 3


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.needs("append")
def test_an_append_elsewhere_than_the_end_tells_where_that_is(store, under, position):
    key = under + b"log"
    store.append(key, 0, [b"123"])
    with pytest.raises(PositionConflict) as caught:
        store.append(key, position, [b"x"])
    assert caught.value.next_position == 3
    assert store.read(key, 0, 3) == b"123"


@pytest.mark.needs("append")
def test_the_first_append_begins_at_nothing(store, under):
    with pytest.raises(PositionConflict) as caught:
        store.append(under + b"log", 5, [b"x"])
    assert caught.value.next_position == 0
    with pytest.raises(NotFound):
        store.head(under + b"log")


def test_a_normal_object_is_not_appendable(store, under):
    store.put(under + b"a", [b"123"])
    with pytest.raises(NotAppendable):
        store.append(under + b"a", 3, [b"x"])
    assert store.head(under + b"a").size == 3


@pytest.mark.needs("append")
def test_a_put_ends_appending(store, under):
    store.append(under + b"log", 0, [b"123"])
    store.put(under + b"log", [b"put"])
    assert store.head(under + b"log", full=True).type is ObjectType.NORMAL
    with pytest.raises(NotAppendable):
        store.append(under + b"log", 3, [b"x"])


@pytest.mark.needs("append")
def test_the_first_append_carries_the_options(store, under):
    options = PutOptions(content_type="text/x-log", metadata={"mode": "420"})
    store.append(under + b"log", 0, [b"1"], options)
    store.append(under + b"log", 1, [b"2"])
    info = store.head(under + b"log", full=True)
    assert (info.content_type, dict(info.metadata)) == ("text/x-log", {"mode": "420"})


# -- copy -------------------------------------------------------------------------------------


def test_a_copy_has_the_bytes_and_the_metadata(store, under):
    store.put(under + b"a", [b"body"], PutOptions(content_type="text/x", metadata={"k": "v"}))
    reply = store.copy(under + b"a", under + b"b")
    info = store.head(under + b"b", full=True)
    assert store.read(under + b"b", 0, 4, if_match=reply.etag) == b"body"
    assert (info.content_type, dict(info.metadata)) == ("text/x", {"k": "v"})
    assert store.names(under) == [b"a", b"b"]


def test_a_copy_with_options_has_the_new_metadata(store, under):
    store.put(under + b"a", [b"body"], PutOptions(content_type="text/x", metadata={"k": "v"}))
    store.copy(
        under + b"a", under + b"b", options=PutOptions(content_type="text/y", metadata={"n": "w"})
    )
    info = store.head(under + b"b", full=True)
    assert (info.content_type, dict(info.metadata)) == ("text/y", {"n": "w"})


def test_a_copy_onto_itself_changes_metadata_in_place(store, under):
    etag = store.put(under + b"a", [b"body"], PutOptions(metadata={"k": "v"})).etag
    store.copy(under + b"a", under + b"a", if_match=etag, options=PutOptions(metadata={"k": "w"}))
    assert dict(store.head(under + b"a", full=True).metadata) == {"k": "w"}
    assert store.read(under + b"a", 0, 4) == b"body"


def test_a_copy_replaces_its_target(store, under):
    store.put(under + b"a", [b"new"])
    store.put(under + b"b", [b"older"])
    store.copy(under + b"a", under + b"b")
    assert store.head(under + b"b").size == 3


def test_only_the_version_named_is_copied(store, under):
    old = store.put(under + b"a", [b"old"]).etag
    store.put(under + b"a", [b"new"])
    with pytest.raises(Changed):
        store.copy(under + b"a", under + b"b", if_match=old)
    assert store.names(under) == [b"a"]


def test_what_is_not_there_cannot_be_copied(store, under):
    with pytest.raises(NotFound):
        store.copy(under + b"a", under + b"b")


def test_a_copy_can_spare_an_object_in_its_way(store, under):
    store.put(under + b"a", [b"a"])
    store.put(under + b"b", [b"b"])
    with pytest.raises(Exists):
        store.copy(under + b"a", under + b"b", options=PutOptions(forbid_overwrite=True))
    assert store.read(under + b"b", 0, 1) == b"b"


# -- delete -----------------------------------------------------------------------------------


def test_a_deleted_object_is_gone_at_once(store, under):
    store.put(under + b"a", [b"x"])
    store.delete(under + b"a")
    with pytest.raises(NotFound):
        store.head(under + b"a")
    assert store.names(under) == []


def test_deleting_nothing_is_no_error(store, under):
    store.delete(under + b"never was")
    store.delete_many([under + b"never was", under + b"nor this"])
    store.delete_many([])


def test_many_are_deleted_in_one_call_and_their_neighbours_stay(store, under):
    names = [b"%03d" % n for n in range(100)]
    for name in names:
        store.put(under + name, [b""])
    store.delete_many([under + name for name in names if name != b"050"])
    assert store.names(under) == [b"050"]


def test_more_than_a_call_can_delete_is_invalid(store, under):
    store.put(under + b"a", [b""])
    too_many = [under + b"a"] * (store.capabilities.delete_many + 1)
    with pytest.raises(Invalid):
        store.delete_many(too_many)
    assert store.names(under) == [b"a"]


# -- symlinks ---------------------------------------------------------------------------------


@pytest.fixture
def link(store, under):
    """Make `target` with five bytes and `link` to it; return the link's key."""
    store.put(under + b"target", [b"bytes"], PutOptions(metadata={"of": "target"}))
    store.put_symlink(under + b"link", under + b"target")
    return under + b"link"


@pytest.mark.needs("symlink")
def test_a_symlink_names_its_target(store, under, link):
    assert store.get_symlink(link) == under + b"target"


@pytest.mark.needs("symlink")
def test_a_get_follows_a_symlink_with_the_targets_version(store, under, link):
    etag = store.head(under + b"target").etag
    body = bytearray(3)
    reply = store.get_range_into(link, 1, [memoryview(body)], if_match=etag)
    assert (body, reply) == (b"yte", (etag, 5))
    with pytest.raises(Changed):
        store.read(link, 0, 1, if_match=store.head(link).etag)


@pytest.mark.needs("symlink")
def test_a_full_head_of_a_symlink_describes_the_target_and_says_symlink(store, under, link):
    info = store.head(link, full=True)
    assert info.type is ObjectType.SYMLINK
    assert (info.size, info.etag) == (5, store.head(under + b"target").etag)


@pytest.mark.needs("symlink")
def test_a_listing_and_a_plain_head_describe_the_link_itself(store, under, link):
    [entry, target] = store.list_page(under).entries
    assert (entry.symlink, target.symlink) == (True, False)
    plain = store.head(link)
    assert (plain.size, plain.etag) == (entry.size, entry.etag)
    assert plain.etag != target.etag


@pytest.mark.needs("symlink")
def test_a_dangling_symlink_is_listed_and_not_found(store, under):
    store.put_symlink(under + b"link", under + b"none")
    assert store.names(under) == [b"link"]
    assert store.get_symlink(under + b"link") == under + b"none"
    for look in (
        lambda: store.read(under + b"link", 0, 1),
        lambda: store.head(under + b"link", full=True),
    ):
        with pytest.raises(NotFound):
            look()


@pytest.mark.needs("symlink")
def test_a_symlink_is_replaced_and_deleted_without_its_target(store, under, link):
    store.put_symlink(link, under + b"elsewhere")
    assert store.get_symlink(link) == under + b"elsewhere"
    store.delete(link)
    assert store.names(under) == [b"target"]


def test_what_is_no_symlink_names_nothing(store, under):
    store.put(under + b"a", [b"x"])
    with pytest.raises(Invalid):
        store.get_symlink(under + b"a")
