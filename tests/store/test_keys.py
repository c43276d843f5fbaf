"""Conformance: a key is bytes, and comes back as it went, through every call that carries one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

KEYS = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
    .map(lambda text: text.encode()[:900].decode(errors="ignore").encode())
    .filter(bool)
)

AWKWARD = [
    b"space in name",
    b" leading and trailing ",
    b"#hash?query&amp;=%41%2F+plus",
    b"new\nline",
    b"carriage\rreturn",
    b"tab\tand\x01control\x7f",
    b"<xml>&\"'</xml>",
    b"]]>",
    b"back\\slash",
    b"quo'te\"s",
    b"semi;colon:and,comma",
    b"!()*~@$[]{}|^`",
    "ümläut-漢字-\U0001f600".encode(),
    "e\u0301 decomposed".encode(),
    b"..",
    b"a/../../b",
    b"a//b/",
    b"trailing.",
    b"con\xc2\x80trol",
]


@pytest.mark.parametrize("name", AWKWARD, ids=ascii)
def test_an_awkward_key_makes_the_whole_round(store, under, name):
    key, copied = under + name, under + b"copy of " + name
    etag = store.put(key, [b"body"]).etag
    assert store.head(key).etag == etag
    assert store.read(key, 1, 2, if_match=etag) == b"od"
    assert store.names(under) == [name]
    store.copy(key, copied)
    assert store.read(copied, 0, 4) == b"body"
    store.delete(key)
    store.delete_many([copied])
    assert store.names(under) == []


@settings(max_examples=60)
@given(name=KEYS)
def test_any_text_is_a_key(store, fresh, name):
    base = fresh()
    assume(store.holds(name, base=base))
    store.put(base + name, [name])
    assert store.names(base) == [name]
    assert store.read(base + name, 0, len(name)) == name
    store.delete_many([base + name])
    assert store.names(base) == []


# A filer cannot hold most of these lists.
@settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much])
@given(names=st.lists(KEYS, min_size=2, max_size=12, unique=True), page=st.integers(1, 5))
def test_any_text_survives_in_tokens_and_start_after(store, fresh, names, page):
    base = fresh()
    assume(store.holds(*names, base=base))
    for name in names:
        store.put(base + name, [b""])
    found: list[bytes] = []
    token = None
    while True:
        got = store.list_page(base, delimiter=b"", token=token, max_keys=page)
        found += [entry.key for entry in got.entries]
        token = got.next_token
        if token is None:
            break
    assert sorted(found) == sorted(base + name for name in names)
    assert found == sorted(found) or store.is_filer
    middle = found[len(found) // 2]
    rest = store.list_page(base, delimiter=b"", start_after=middle)
    assert [entry.key for entry in rest.entries] == found[len(found) // 2 + 1 :]


@settings(max_examples=20)
@given(name=KEYS, target=KEYS)
def test_any_text_is_a_key_to_uploads_and_symlinks(store, fresh, name, target):
    base = fresh()
    assume(store.holds(name, base=base))
    upload = store.create_upload(base + name)
    assert [(p.key, p.upload_id) for p in store.list_uploads(base)] == [(base + name, upload)]
    store.abort_upload(base + name, upload)
    if not store.capabilities.symlink:
        return
    store.put_symlink(base + name, base + target)
    assert store.get_symlink(base + name) == base + target
