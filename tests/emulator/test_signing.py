"""Who is let in: V1, V4, STS tokens, time, and what each mistake is called."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest

from ossfs.emulator.server import Settings
from ossfs.emulator.signing import Key
from tests.emulator.conftest import SCALED, Served
from tests.emulator.raw import RawClient


@pytest.fixture(params=[False, True], ids=["v1", "v4"])
def v4(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_request_signed_with_the_key_is_let_in(served: Served, v4: bool) -> None:
    """OSS docs, Include signatures in the Authorization header (V1; V4)."""
    oss = RawClient(served.port, v4=v4)
    headers = {"x-oss-meta-b": "2", "x-oss-meta-a": "1", "Content-Type": "text/plain"}
    assert oss.call("PUT", "a b/ü+?&=", headers=headers, body=b"x").status == 200
    query = {"prefix": "a b/ü+?&=", "list-type": "2", "delimiter": "/"}
    assert oss.call("GET", query=query).one("KeyCount") == "1"
    oss.close()


def test_no_signature_is_access_denied(oss: RawClient) -> None:
    """OSS docs, HTTP status code 403, AccessDenied."""
    for key in ("x", ""):
        answer = oss.call("GET", key, signed=False)
        assert (answer.status, answer.code) == (403, "AccessDenied")


def test_an_unknown_key_is_invalid_access_key_id(served: Served, v4: bool) -> None:
    """OSS docs, HTTP status code 403, InvalidAccessKeyId."""
    oss = RawClient(served.port, key_id="somebody-else", v4=v4)
    answer = oss.call("GET", "x")
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
    assert oss.call("HEAD", "x").code == "InvalidAccessKeyId"
    oss.close()


def test_a_wrong_secret_is_signature_does_not_match(served: Served, v4: bool) -> None:
    """OSS docs, HTTP status code 403, SignatureDoesNotMatch; it tells what was to be signed."""
    oss = RawClient(served.port, key_secret="wrong", v4=v4)
    answer = oss.call("GET", "x")
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert answer.all("StringToSign")
    assert b"test-key-secret" not in answer.body
    oss.close()


def test_a_changed_header_or_parameter_breaks_the_signature(served: Served, v4: bool) -> None:
    """OSS docs, Include signatures: x-oss- headers and sub-resources are signed."""
    oss = RawClient(served.port, v4=v4)
    signed = oss.sign("PUT", "tampered", headers={"x-oss-meta-a": "1"})
    for headers, query in (
        ({**signed, "x-oss-meta-a": "2"}, {}),
        ({**signed, "x-oss-meta-b": "2"}, {}),
        (signed, {"acl": ""}),
    ):
        answer = oss.call("PUT", "tampered", query, headers, b"x", signed=False)
        assert answer.code == "SignatureDoesNotMatch"
    assert oss.call("PUT", "tampered", {}, signed, b"x", signed=False).status == 200
    oss.close()


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_clock_more_than_15_minutes_off_is_too_skewed(
    served: Served, v4: bool, minutes: int
) -> None:
    """OSS docs, HTTP status code 403, RequestTimeTooSkewed."""
    oss = RawClient(served.port, v4=v4)
    answer = oss.call("GET", "x", now=time.time() + minutes * 60)
    assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
    assert oss.call("GET", "x", now=time.time() + minutes * 56).code == "NoSuchKey"
    oss.close()


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_request_without_a_date_is_access_denied_first_and_last(
    tmp_path: Path, v4: bool, date: str | None
) -> None:
    """OSS docs, HTTP status code 403, AccessDenied: OSS authentication requires a valid Date."""
    server = Served(tmp_path, Settings(Key("test-key-id", "test-key-secret")), SCALED)
    oss = RawClient(server.port, v4=v4)
    headers = oss.sign("GET", "x")
    name = "x-oss-date" if v4 else "Date"
    del headers[name]
    if date is not None:
        headers[name] = date
    for _ in range(2):
        answer = oss.call("GET", "x", headers=headers, signed=False)
        assert (answer.status, answer.code) == (403, "AccessDenied")
        assert answer.one("Message") == "OSS authentication requires a valid Date."
        assert oss.call("GET", "x").code == "NoSuchKey"
    oss.close()
    server.close()


def test_a_presigned_url_is_refused(served: Served, v4: bool) -> None:
    """Not built, see signing.py; OSS docs, HTTP status code 403, AccessDenied."""
    endpoint = f"http://127.0.0.1:{served.port}"
    auth = (oss2.AuthV4 if v4 else oss2.Auth)("test-key-id", "test-key-secret")
    bucket = oss2.Bucket(auth, endpoint, "test-bucket", region="cn-hangzhou" if v4 else None)
    url = bucket.sign_url("GET", "x", 60)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", url.removeprefix(endpoint))
    reply = connection.getresponse()
    assert reply.status == 403
    assert b"<Code>AccessDenied</Code>" in reply.read()
    connection.close()


@pytest.mark.parametrize(
    "additional", [["range"], ["if-match", "range"], ["host", "range", "x-oss-meta-a"]]
)
def test_v4_covers_the_headers_it_names_besides_the_usual(
    served: Served, additional: list[str]
) -> None:
    """OSS docs, V4 signature, AdditionalHeaders: names in order, each header covered once."""
    oss = RawClient(served.port, v4=True)
    etag = oss.call("PUT", "covered", body=b"0123456789").headers["etag"]
    headers = {
        "Host": f"127.0.0.1:{served.port}",
        "Range": "bytes=2-3",
        "If-Match": etag,
        "x-oss-meta-a": "1",
    }
    headers = oss.sign("GET", "covered", headers=headers, additional=additional)
    assert f"AdditionalHeaders={';'.join(additional)}," in headers["Authorization"]
    assert oss.call("GET", "covered", headers=headers, signed=False).body == b"23"
    for name, other in (("Range", "bytes=2-4"), ("If-Match", '"0"'), ("x-oss-meta-a", "2")):
        covered = name.lower() in additional or name.startswith("x-oss-")
        for changed in ({**headers, name: other}, {n: headers[n] for n in headers if n != name}):
            answer = oss.call("GET", "covered", headers=changed, signed=False)
            assert (answer.code == "SignatureDoesNotMatch") == covered, (name, changed)
    claimed = headers["Authorization"].replace("AdditionalHeaders=", "AdditionalHeaders=expires;")
    answer = oss.call("GET", "covered", headers={**headers, "Authorization": claimed}, signed=False)
    assert answer.code == "SignatureDoesNotMatch"
    oss.close()


def test_v4_signs_the_region(served: Served) -> None:
    """OSS docs, V4 signature, scope: a request for another region is refused."""
    oss = RawClient(served.port, region="cn-beijing", v4=True)
    answer = oss.call("GET", "x")
    assert answer.status in (400, 403)
    assert answer.code == "InvalidArgument"
    assert "Invalid signing region in Authorization header." in answer.body.decode()
    oss.close()


@pytest.fixture(scope="module")
def sts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    key = Key("test-key-id", "test-key-secret", "the-token")
    server = Served(tmp_path_factory.mktemp("sts"), Settings(key), SCALED)
    yield server
    server.close()


def test_an_sts_key_needs_its_token(sts: Served, v4: bool) -> None:
    """OSS docs, HTTP status code 403: InvalidAccessKeyId without, InvalidSecurityToken with."""
    for token, code in (
        (None, "InvalidAccessKeyId"),
        ("another-token", "InvalidSecurityToken"),
        ("the-token", "NoSuchKey"),
    ):
        oss = RawClient(sts.port, token=token, v4=v4)
        assert oss.call("GET", "x").code == code
        oss.close()


def test_a_token_for_a_key_without_one_is_refused(served: Served, v4: bool) -> None:
    """OSS docs, HTTP status code 403, InvalidSecurityToken."""
    oss = RawClient(served.port, token="what-is-this", v4=v4)
    assert oss.call("GET", "x").code == "InvalidSecurityToken"
    oss.close()


def test_an_expired_token_is_security_token_expired(tmp_path: Path, v4: bool) -> None:
    """OSS docs, HTTP status code 403, SecurityTokenExpired."""
    key = Key("test-key-id", "test-key-secret", "the-token", token_expires=time.time() - 1)
    server = Served(tmp_path, Settings(key), SCALED)
    oss = RawClient(server.port, token="the-token", v4=v4)
    answer = oss.call("GET", "x")
    assert (answer.status, answer.code) == (403, "SecurityTokenExpired")
    oss.close()
    server.close()


def test_a_dated_token_is_good_until_then(tmp_path: Path, v4: bool) -> None:
    server = Served(
        tmp_path, Settings(Key("test-key-id", "test-key-secret", "t", dated=True)), SCALED
    )
    now = int(time.time())
    for token, code in (
        (f"t.{now + 60}", "NoSuchKey"),
        (f"t.{now - 1}", "SecurityTokenExpired"),
        (f"u.{now + 60}", "InvalidSecurityToken"),
        ("t", "InvalidSecurityToken"),
    ):
        oss = RawClient(server.port, token=token, v4=v4)
        assert oss.call("GET", "x").code == code
        oss.close()
    server.close()
