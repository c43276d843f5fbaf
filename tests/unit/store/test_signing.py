"""Our signatures are oss2's and minio's, byte for byte; these are the oracles and nothing else."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from email.utils import formatdate
from unittest import mock
from urllib.parse import SplitResult, quote

import minio.credentials
import minio.signer
import oss2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oss2.credentials import StaticCredentialsProvider

from ossfs.credentials import ANONYMOUS, Credentials, StaticCredentials
from ossfs.store.signing import Pairs, S3Signer, SignerV1, SignerV4, make_signer, quote_key

WALL = 1_760_000_000.25
BUCKET = "my-bucket"
REGION = "cn-hangzhou"
PLAIN = Credentials("LTAIkeyid", "s3cr3t+/=")
WITH_TOKEN = Credentials("STS.id", "temporary", token="CAISxQ==/token")

KEYS = [
    b"",
    b"plain.txt",
    b"a/b/c/d.bin",
    "目录/файл/ñ.txt".encode(),
    b"with space and\ttab",
    b"+'()*!~%&?#",
    b"%2F%20",
    b"new\nline",
    b"?starts-with-a-question-mark",
    b"k" * 1023,
]
REQUESTS: list[tuple[bytes, Pairs, Pairs]] = [
    (b"GET", (), ((b"x-oss-range-behavior", b"standard"),)),
    (b"HEAD", ((b"objectMeta", b""),), ()),
    (b"GET", ((b"symlink", b""),), ()),
    (b"PUT", (), ((b"content-type", b"text/plain"), (b"x-oss-meta-mode", b"33188"))),
    (b"PUT", (), ((b"x-oss-storage-class", b"IA"), (b"x-oss-forbid-overwrite", b"true"))),
    (b"PUT", ((b"partNumber", b"10000"), (b"uploadId", b"0004B999EF518A1FE585B0C9360DC4C8")), ()),
    (b"POST", ((b"append", b""), (b"position", b"12")), ((b"content-type", b"a/b"),)),
    (b"POST", ((b"delete", b""),), ((b"content-md5", b"ZnVu=="),)),
    (
        b"GET",
        (
            (b"list-type", b"2"),
            (b"prefix", b"a b/\xc3\xb1"),
            (b"delimiter", b"/"),
            (b"max-keys", b"1000"),
            (b"encoding-type", b"url"),
            (b"continuation-token", b"CgJiYw--+/="),
        ),
        (),
    ),
]


class FrozenDatetime(datetime.datetime):
    @classmethod
    def utcnow(cls) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(int(WALL), datetime.UTC).replace(tzinfo=None)


def parsed(lines: bytes) -> dict[str, str]:
    assert lines.endswith(b"\r\n")
    pairs = [line.decode().split(": ", 1) for line in lines[:-2].split(b"\r\n")]
    return {name.lower(): value for name, value in pairs}


def of_oss2(
    version: int, credentials: Credentials, method: bytes, key: bytes, query: Pairs, headers: Pairs
) -> dict[str, str]:
    """Return the headers that oss2's signer adds to the same request."""
    provider = StaticCredentialsProvider(
        credentials.key_id, credentials.key_secret, credentials.token or ""
    )
    auth = oss2.ProviderAuth(provider) if version == 1 else oss2.ProviderAuthV4(provider)
    given = {name.decode(): value.decode() for name, value in headers}
    request = oss2.http.Request(
        method.decode(),
        "http://nowhere/",
        params={name.decode(): value.decode() for name, value in query},
        headers=dict(given),
        region=REGION,
        product="oss",
    )
    with (
        mock.patch("oss2.utils.http_date", return_value=formatdate(int(WALL), usegmt=True)),
        mock.patch("oss2.auth.datetime", FrozenDatetime),
    ):
        auth._sign_request(request, BUCKET, key.decode())
    added = {name.lower(): value for name, value in request.headers.items() if value is not None}
    for name in (*given, "accept-encoding", "user-agent"):
        added.pop(name, None)
    return added


def signer_of(version: int, credentials: Credentials) -> SignerV1 | SignerV4:
    provider = StaticCredentials(credentials)
    if version == 1:
        return SignerV1(provider, BUCKET, lambda: WALL)
    return SignerV4(provider, BUCKET, REGION, lambda: WALL)


@pytest.mark.parametrize("version", [1, 4])
@pytest.mark.parametrize("credentials", [PLAIN, WITH_TOKEN], ids=["keys", "token"])
@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_kind_of_request_is_signed_as_oss2_signs_it(
    version: int, credentials: Credentials, key: bytes
) -> None:
    signer = signer_of(version, credentials)
    for method, query, headers in REQUESTS:
        ours = parsed(signer.sign(method, key, query, headers))
        assert ours == of_oss2(version, credentials, method, key, query, headers)


tokens = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), max_size=20)


@given(
    version=st.sampled_from([1, 4]),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    upload=tokens,
    meta=st.dictionaries(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), tokens, max_size=4),
)
def test_arbitrary_keys_queries_and_metadata_are_signed_as_oss2_signs_them(
    version: int, key: str, upload: str, meta: dict[str, str]
) -> None:
    query = ((b"uploadId", upload.encode()), (b"partNumber", b"3"))
    headers = tuple((f"x-oss-meta-{name}".encode(), v.encode()) for name, v in meta.items())
    ours = parsed(signer_of(version, PLAIN).sign(b"PUT", key.encode(), query, headers))
    assert ours == of_oss2(version, PLAIN, b"PUT", key.encode(), query, headers)


def test_the_region_decides_the_version() -> None:
    provider = StaticCredentials(PLAIN)
    assert isinstance(make_signer(provider, BUCKET, ""), SignerV1)
    assert isinstance(make_signer(provider, BUCKET, REGION), SignerV4)


class Rotating:
    """Two sets of keys, one after the other."""

    def __init__(self) -> None:
        self.current = PLAIN

    def get(self) -> Credentials:
        return self.current

    def refresh(self) -> bool:
        self.current = WITH_TOKEN
        return True


@pytest.mark.parametrize("version", [1, 4])
def test_refreshed_keys_take_effect_at_the_next_signature(version: int) -> None:
    provider = Rotating()
    wall: Callable[[], float] = lambda: WALL  # noqa: E731 -- a parameter, not a function
    signer = (
        SignerV1(provider, BUCKET, wall)
        if version == 1
        else SignerV4(provider, BUCKET, REGION, wall)
    )
    before = parsed(signer.sign(b"GET", b"k", (), ()))
    provider.refresh()
    after = parsed(signer.sign(b"GET", b"k", (), ()))
    assert "x-oss-security-token" not in before
    assert after == of_oss2(version, WITH_TOKEN, b"GET", b"k", (), ())


def test_the_day_key_changes_at_midnight_utc() -> None:
    now = [float(1_759_967_999)]  # 2025-10-08T23:59:59Z
    signer = SignerV4(StaticCredentials(PLAIN), BUCKET, REGION, lambda: now[0])
    before = signer.sign(b"GET", b"k", (), ())
    now[0] += 1
    after = signer.sign(b"GET", b"k", (), ())
    assert b"/20251008/cn-hangzhou/oss/" in before
    assert b"/20251009/cn-hangzhou/oss/" in after
    fresh = SignerV4(StaticCredentials(PLAIN), BUCKET, REGION, lambda: now[0])
    assert fresh.sign(b"GET", b"k", (), ()) == after


def test_no_part_of_the_secret_is_in_what_is_sent() -> None:
    for version in (1, 4):
        assert b"s3cr3t" not in signer_of(version, PLAIN).sign(b"GET", b"k", (), ())


def test_keys_are_quoted_but_for_slashes_and_unreserved_characters() -> None:
    assert quote_key(b"a/~-._ +%") == "a/~-._%20%2B%25"


# -- S3 ---------------------------------------------------------------------------------------

AUTHORITY = "127.0.0.1:8333"
S3_REQUESTS: list[tuple[bytes, Pairs, Pairs]] = [
    (b"GET", (), ()),
    (b"HEAD", (), ()),
    (b"DELETE", (), ()),
    (b"DELETE", ((b"uploadId", b"a.b+c/=="),), ()),
    (b"PUT", (), ((b"content-type", b"text/plain"), (b"content-md5", b"ZnVu=="))),
    (b"PUT", (), ((b"x-amz-meta-mode", b"33188"), (b"if-none-match", b"*"))),
    (b"PUT", (), ((b"x-amz-meta-text", "many   blanks, ñ".encode()), (b"x-amz-meta-none", b""))),
    (b"POST", ((b"uploads", b""),), ((b"x-amz-storage-class", b"STANDARD_IA"),)),
    (b"POST", ((b"delete", b""),), ((b"content-md5", b"ZnVu=="),)),
    (
        b"GET",
        (
            (b"list-type", b"2"),
            (b"prefix", b"a b/\xc3\xb1"),
            (b"delimiter", b"/"),
            (b"max-keys", b"1"),
            (b"encoding-type", b"url"),
            (b"continuation-token", b"CgJiYw--+/="),
        ),
        (),
    ),
]


def of_minio(
    credentials: Credentials, path: str, method: bytes, key: bytes, query: Pairs, headers: Pairs
) -> dict[str, str]:
    """Return the headers that minio's signer adds to the same request."""
    now = datetime.datetime.fromtimestamp(int(WALL), datetime.UTC)
    added = {
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
    }
    if credentials.token:
        added["x-amz-security-token"] = credentials.token
    given = {name.decode(): value.decode() for name, value in headers}
    encoded = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    signed = minio.signer.sign_v4_s3(
        method=method.decode(),
        url=SplitResult("http", AUTHORITY, path + quote_key(key), encoded, ""),
        region="us-east-1",
        headers={"host": AUTHORITY, **added, **given},
        credentials=minio.credentials.Credentials(credentials.key_id, credentials.key_secret),
        content_sha256="UNSIGNED-PAYLOAD",
        date=now,
    )
    return {**added, "authorization": str(signed["Authorization"])}


def s3_signer(credentials: Credentials, path: str = "/") -> S3Signer:
    provider = StaticCredentials(credentials)
    return S3Signer(provider, AUTHORITY, path, "us-east-1", lambda: WALL)


@pytest.mark.parametrize("path", ["/", "/my-bucket/"])
@pytest.mark.parametrize("credentials", [PLAIN, WITH_TOKEN], ids=["keys", "token"])
@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_kind_of_request_is_signed_as_minio_signs_it(
    path: str, credentials: Credentials, key: bytes
) -> None:
    signer = s3_signer(credentials, path)
    for method, query, headers in S3_REQUESTS:
        ours = parsed(signer.sign(method, key, query, headers))
        assert ours == of_minio(credentials, path, method, key, query, headers)


@given(
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    query=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4),
    meta=st.dictionaries(st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True), tokens, max_size=4),
)
def test_arbitrary_keys_queries_and_metadata_are_signed_as_minio_signs_them(
    key: str, query: dict[str, str], meta: dict[str, str]
) -> None:
    pairs = tuple((name.encode(), value.encode()) for name, value in query.items())
    headers = tuple((f"x-amz-meta-{name}".encode(), v.encode()) for name, v in meta.items())
    ours = parsed(s3_signer(PLAIN).sign(b"PUT", key.encode(), pairs, headers))
    assert ours == of_minio(PLAIN, "/", b"PUT", key.encode(), pairs, headers)


def test_another_region_and_other_keys_take_effect_at_the_next_signature_of_s3() -> None:
    provider = Rotating()
    signer = S3Signer(provider, AUTHORITY, "/", "eu-west-1", lambda: WALL)
    assert b"/20251009/eu-west-1/s3/aws4_request" in signer.sign(b"GET", b"k", (), ())
    signer.region = "us-east-1"
    for credentials in (PLAIN, WITH_TOKEN):
        ours = parsed(signer.sign(b"GET", b"k", (), ()))
        assert ours == of_minio(credentials, "/", b"GET", b"k", (), ())
        provider.refresh()


def test_nobody_signs_nothing() -> None:
    assert s3_signer(ANONYMOUS).sign(b"GET", b"k", (), ()) == b""
