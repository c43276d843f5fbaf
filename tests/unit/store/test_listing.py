"""The quick parser and the strict one agree, and what is no reply of OSS is refused."""

from __future__ import annotations

import time
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.store import listing
from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import Unavailable
from ossfs.store.listing import parse_error, parse_etag, parse_page, parse_page_strictly

CONTENTS = (
    "<Contents><Key>{key}</Key><LastModified>{date}</LastModified><ETag>{etag}</ETag>"
    "<Type>{type}</Type><Size>{size}</Size><StorageClass>Standard</StorageClass>{more}</Contents>"
)
OWNER = "<Owner><ID>0022012****</ID><DisplayName>0022012****</DisplayName></Owner>"


def contents(
    key: str,
    *,
    size: object = 7,
    date: str = "2012-02-24T08:43:07.000Z",
    etag: str = '"5B3C1A2E053D763E1B002CC607C5A0FE"',
    type: str = "Normal",
    more: str = OWNER,
) -> str:
    return CONTENTS.format(key=key, date=date, etag=etag, type=type, size=size, more=more)


def page(
    *parts: str, prefix: str = "", truncated: str = "false", token: str = "", url: bool = True
) -> bytes:
    encoding = "<EncodingType>url</EncodingType>" if url else ""
    next_token = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>\n<Name>examplebucket</Name>'
        f"<Prefix>{prefix}</Prefix><StartAfter></StartAfter><MaxKeys>1000</MaxKeys>"
        f"<Delimiter>%2F</Delimiter>{encoding}<IsTruncated>{truncated}</IsTruncated>{next_token}"
        + "".join(parts)
        + f"<KeyCount>{len(parts)}</KeyCount></ListBucketResult>"
    ).encode()


def common(prefix: str) -> str:
    return f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"


def test_a_page_as_oss_writes_it_is_read_quickly_and_whole() -> None:
    body = page(
        contents("fun%2Fmovie%2F001.avi", size=344606),
        contents(
            "fun%2Fln", type="Symlink", etag="&quot;AB&quot;", date="1970-01-01T00:00:01.000Z"
        ),
        common("fun%2Fa%20b%2F"),
        common("fun%2F%E4%B8%AD%0A%2F"),
        prefix="fun%2F",
        truncated="true",
        token="CgJiYw--",
    )
    expected = ListPage(
        [
            ListEntry(b"fun/movie/001.avi", 344606, 1330072987, "5B3C1A2E053D763E1B002CC607C5A0FE"),
            ListEntry(b"fun/ln", 7, 1, "AB", symlink=True),
        ],
        [b"fun/a b/", "fun/中\n/".encode()],
        "CgJiYw--",
    )
    assert listing._parse_quickly(body) == expected
    assert parse_page_strictly(body) == expected


def test_an_empty_page_is_read_quickly() -> None:
    assert listing._parse_quickly(page()) == ListPage([], [], None)


@pytest.mark.parametrize(
    ("written", "token"),
    [
        ("Cgt4L3krPQ%3D%3D", "Cgt4L3krPQ=="),
        ("Cgt4L3krPQ==", "Cgt4L3krPQ=="),
        ("a%2Bb+c%2Fd", "a+b+c/d"),
        ("%E4%B8%AD%26", "中&"),
        ("100%", "100%"),
    ],
)
def test_a_token_is_decoded_like_the_keys(written: str, token: str) -> None:
    body = page(contents("a"), truncated="true", token=written)
    assert parse_page_strictly(body).next_token == token
    quick = listing._parse_quickly(body)
    assert quick is not None
    assert quick.next_token == token


def test_a_token_is_itself_where_nothing_is_encoded() -> None:
    body = page(contents("a"), truncated="true", token="a%2Bb", url=False)
    assert parse_page(body).next_token == "a%2Bb"


def test_a_restored_object_does_not_slow_its_page_down() -> None:
    info = "<RestoreInfo>ongoing-request=&quot;false&quot;</RestoreInfo>"
    assert listing._parse_quickly(page(contents("a", more=info), contents("b"))) is not None


def test_a_plus_sign_in_a_key_is_itself() -> None:
    assert parse_page(page(contents("a+b%2Bc"))).entries[0].key == b"a+b+c"


@pytest.mark.parametrize(
    "body",
    [
        page(contents("a").replace("<Type>Normal</Type>", "") + contents("b")),
        page(contents("a", more="<RestoreInfo>ongoing-request=&quot;true&quot;</RestoreInfo>")),
        page(contents("a", more="<Owner><Nested><ID>1</ID></Nested></Owner>")),
        page(contents("a", more="\n  ").replace("><", ">\n<")),
        page(contents("a&amp;b"), url=False),
        page(contents("a%20b"), url=False),
        page(contents("a").replace("<Type>Normal</Type>", "") .replace(
            "<StorageClass>", "<Type>Symlink</Type><StorageClass>")),
        page(contents("a").replace("<Type>", "<Type x='y'>").replace("Normal", "Symlink")),
        page(contents("中")),
        page(contents("a%FFb"), contents("c")),
        page(contents("a%"), contents("2Fb")),
        page(contents("a%2Fb"), prefix="a%2"),
        page(contents("a%2Fb"), prefix="a%"),
        page(contents("a"), contents("<!--x-->b")),
        page(contents("<![CDATA[a]]>")),
        page(contents("a", etag="")),
        page(contents("a", etag='W/"x"')),
        page(contents("a", date="2012-02-24T08:43:07Z")),
        page(contents("a"), truncated="true", token="a&amp;b"),
        page(contents("a")).replace(b"<ListBucketResult>", b"<ListBucketResult xmlns='http://x'>"),
        page(contents("a")).replace(b"<Contents>", b"<Contents >"),
        page(common("a%2F") + "<CommonPrefixes><Other/><Prefix>b%2F</Prefix></CommonPrefixes>"),
        page("<Other>" + contents("a") + "</Other>", contents("b")),
        page("<Other>" + contents("a") + contents("b") + "</Other>"),
        page("<Other>" + common("a%2F") + "</Other>"),
        page("<Other>" + contents("a") + "</Other>", contents("b").replace("<Key>", "<Key >")),
        page("<?x " + contents("a") + "?>"),
        page(contents("a"), common("b%2F"), contents("c"), common("d%2F")),
        page(common("b%2F"), contents("c")),
        page(contents("a", more="<Size>8</Size><Key>b</Key><ETag>F</ETag>")),
        page(contents("a", more="<Contents>b</Contents>")),
        page(contents("a")).replace(b"UTF-8", b"iso8859-1").replace(b"Name>", b"Name>\xe4", 1),
        page(contents("a")).replace(b"\n", b"\r\n").replace(b"<Size>", b"\t<Size>"),
    ],
    ids=range(33),
)  # fmt: skip
def test_whatever_the_layout_both_parsers_say_the_same(body: bytes) -> None:
    assert parse_page(body) == parse_page_strictly(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>502 Bad Gateway</body></html>",
        b"not XML at all",
        b"<ListBucketResult>",
        b"<Error><Code>X</Code></Error>",
        page(contents("a", size="many")),
        page(contents("a", size="")),
        page(contents("a", size="-1")),
        page(contents("a", size="1_0")),
        page(contents("a", size="9" * 5_000)),
        page(contents("a", date="yesterday")),
        page(contents("a", date="2012-02-30T08:43:07.000Z")),
        page(contents("a"), truncated="true"),
        page(contents("a"), truncated=""),
        page(contents("a"), truncated="True"),
        page(contents("a"), truncated="1", token="T"),
        page(contents("a"), truncated="true", token="%FF"),
        page(contents("a")).replace(b"<IsTruncated>false</IsTruncated>", b""),
        page(contents("")),
        page(contents("a").replace("<Key>a</Key>", "")),
        page(common("")),
        page("<CommonPrefixes></CommonPrefixes>"),
        page(contents("a"), contents("b")[15:], contents("c")),
        page(contents("a"), "<Contents>", contents("b")),
        page(contents("a"), "</Contents>", contents("b")),
        page(contents("a"), "text & text"),
        page(contents("a", more="<b></c>")),
        page(contents("a", more="<RestoreInfo>]]></RestoreInfo>")),
        page(contents("a", more="<RestoreInfo>&nothing;</RestoreInfo>")),
        page(contents("a\x0bb")),
        page(contents("a"), "<x y='<Contents/>'/>"),
        page(contents("a")).replace(b"<Name>", b"<Name>\xff"),
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + page(contents("&a;")),
        page(contents("\x08"), url=False),
        page(contents("a"), contents("b")).partition(b"<KeyCount>")[0],
    ],
    ids=range(35),
)
def test_what_is_no_listing_is_unavailable(body: bytes) -> None:
    with pytest.raises(Unavailable):
        parse_page(body)


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
etags = st.text("0123456789ABCDEF-", min_size=1, max_size=36)


@given(
    names=st.lists(keys, max_size=8),
    prefixes=st.lists(keys, max_size=3),
    prefix=st.sampled_from(["", "a/", "ñ/b c/", "%"]),
    size=st.integers(0, 2**48),
    seconds=st.integers(0, 2**32),
    etag=etags,
    kind=st.sampled_from(["Normal", "Multipart", "Appendable", "Symlink"]),
    owner=st.booleans(),
    token=st.one_of(st.none(), st.text("abcXYZ019-_=", min_size=1, max_size=20)),
)
def test_any_page_encoded_as_oss_does_is_read_back_by_both(
    names: list[str],
    prefixes: list[str],
    prefix: str,
    size: int,
    seconds: int,
    etag: str,
    kind: str,
    owner: bool,
    token: str | None,
) -> None:
    date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
    body = page(
        *(
            contents(
                quote(prefix + name, safe=""),
                size=size,
                date=date,
                etag=f'"{etag}"',
                type=kind,
                more=OWNER if owner else "",
            )
            for name in names
        ),
        *(common(quote(prefix + name + "/", safe="")) for name in prefixes),
        prefix=quote(prefix, safe=""),
        truncated="true" if token else "false",
        token=token or "",
    )
    expected = ListPage(
        [
            ListEntry(
                (prefix + name).encode(),
                size,
                seconds,
                etag,
                kind == "Symlink",
                kind != "Appendable",
            )
            for name in names
        ],
        [(prefix + name + "/").encode() for name in prefixes],
        token,
    )
    assert listing._parse_quickly(body) == expected
    assert parse_page_strictly(body) == expected


def outcome(parse: object, body: bytes) -> object:
    try:
        return parse(body)  # type: ignore[operator]
    except Unavailable:
        return Unavailable


@given(
    data=st.data(),
    cut=st.integers(0, 1200),
    length=st.integers(0, 60),
    noise=st.one_of(
        st.binary(max_size=4),
        st.sampled_from(
            [
                b"<Contents>",
                b"</Contents>",
                b"</Key>",
                b"&amp;",
                b"&quot;",
                b"%",
                b"<Type>",
                b"<Contents/>",
                b"<CommonPrefixes/>",
                b"</CommonPrefixes>",
                b"<IsTruncated>false</IsTruncated>",
                b"<x></y>",
                b"]]>",
                b"\x0b",
                b"\xff",
            ]
        ),
    ),
)
def test_a_damaged_page_never_reads_differently_by_the_quick_parser(
    data: st.DataObject, cut: int, length: int, noise: bytes
) -> None:
    body = page(
        contents("a%2Fb"),
        contents("a%2F%E4%B8%AD", type="Symlink", size=0),
        common("a%2Fd%2F"),
        prefix="a%2F",
        truncated="true",
        token="Cg--",
    )
    damaged = body[:cut] + noise + body[cut + length :]
    quick = listing._parse_quickly(damaged)
    strict = outcome(parse_page_strictly, damaged)
    if quick is not None:
        assert quick == strict


def test_the_etag_of_a_copy_is_found_in_its_body() -> None:
    assert parse_etag(b'<CopyObjectResult><ETag>"AB-1"</ETag></CopyObjectResult>') == "AB-1"
    assert parse_etag(b"<CopyObjectResult></CopyObjectResult>") is None
    assert parse_etag(b"") is None


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=40))
def test_an_error_says_its_code_and_message(message: str) -> None:
    body = f"<?xml version='1.0'?>\n<Error>\n  <Code>NoSuchKey</Code>\n  <Message>{escape(message)}"
    parsed = parse_error((body + "</Message>\n<EC>0026-00000001</EC></Error>").encode())
    assert parsed == ("NoSuchKey", message.strip(), "", "")


@pytest.mark.parametrize(
    "body", [b"", b"<html>404</html>", b"<Error>", b"<Error><Code>", b"\xff\xfe<Error><Message/>"]
)
def test_an_error_page_of_somebody_else_says_nothing(body: bytes) -> None:
    assert parse_error(body) == ("", "", "", "")
