"""AppendObject, CopyObject, symlinks and DeleteMultipleObjects, rule by rule."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from fastcrc import crc64

from tests.emulator.conftest import Served
from tests.emulator.raw import Answer, RawClient


def append(oss: RawClient, key: str, position: int, data: bytes) -> Answer:
    return oss.call("POST", key, {"append": "", "position": str(position)}, body=data)


def make_old(served: Served, key: bytes) -> None:
    bucket = served.storage.bucket("test-bucket")
    record = replace(bucket.get(key), mtime=1_000_000_000, head=None)
    bucket.commit(record, keep=record.segments)


def test_appends_grow_an_object_and_tell_the_next_position(oss: RawClient) -> None:
    """OSS docs, AppendObject: next position and the CRC-64 of the whole object so far."""
    first = append(oss, "log", 0, b"hello ")
    assert first.headers["x-oss-next-append-position"] == "6"
    second = append(oss, "log", 6, b"world")
    assert second.headers["x-oss-next-append-position"] == "11"
    assert second.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(b"hello world"))
    assert first.headers["etag"] != second.headers["etag"]
    found = oss.call("GET", "log")
    assert found.body == b"hello world"
    assert found.headers["x-oss-object-type"] == "Appendable"
    assert found.headers["x-oss-next-append-position"] == "11"
    assert found.headers["etag"] == second.headers["etag"]


def test_an_append_elsewhere_than_at_the_end_tells_where_the_end_is(oss: RawClient) -> None:
    """OSS docs, AppendObject: 409 PositionNotEqualToLength, x-oss-next-append-position."""
    append(oss, "pos", 0, b"12345")
    for position in (0, 4, 6):
        answer = append(oss, "pos", position, b"x")
        assert (answer.status, answer.code) == (409, "PositionNotEqualToLength")
        assert answer.headers["x-oss-next-append-position"] == "5"
    assert append(oss, "pos-new", 3, b"x").headers["x-oss-next-append-position"] == "0"
    assert oss.call("HEAD", "pos-new").status == 404


def test_only_an_appendable_object_can_be_appended_to(oss: RawClient) -> None:
    """OSS docs, AppendObject: 409 ObjectNotAppendable."""
    oss.call("PUT", "normal", body=b"x")
    answer = append(oss, "normal", 1, b"y")
    assert (answer.status, answer.code) == (409, "ObjectNotAppendable")


def test_appends_end_at_the_limit_and_need_a_position(oss: RawClient) -> None:
    """OSS docs, AppendObject: 5 GB in all (here 5,000 bytes)."""
    append(oss, "full", 0, b"x" * 4_999)
    assert append(oss, "full", 4_999, b"yz").code == "EntityTooLarge"
    assert append(oss, "full", 4_999, b"y").status == 200
    assert oss.call("POST", "full", {"append": ""}, body=b"").status == 400


def test_an_empty_appendable_object_grows(oss: RawClient) -> None:
    """OSS docs, AppendObject: an append may be of no bytes."""
    assert append(oss, "zero", 0, b"").headers["x-oss-next-append-position"] == "0"
    assert append(oss, "zero", 0, b"a").headers["x-oss-next-append-position"] == "1"
    assert append(oss, "zero", 1, b"").status == 200
    assert oss.call("GET", "zero").body == b"a"


def test_appending_nothing_changes_nothing(served: Served, oss: RawClient) -> None:
    """OSS docs, AppendObject, position: 0 bytes leave an appendable object's state as it is."""
    for data in (b"", b"abc"):
        made = append(oss, "still", 0, data)
        served.run(lambda: make_old(served, b"still"))
        again = append(oss, "still", len(data), b"")
        assert again.status == 200
        for name in ("etag", "x-oss-hash-crc64ecma", "x-oss-next-append-position"):
            assert again.headers[name] == made.headers[name]
        found = oss.call("GET", "still", headers={"If-Match": made.headers["etag"]})
        assert (found.status, found.body) == (200, data)
        assert found.headers["last-modified"] == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert append(oss, "still", 2, b"").code == "PositionNotEqualToLength"


def test_a_put_turns_an_appendable_object_into_a_normal_one(oss: RawClient) -> None:
    """OSS docs, AppendObject and other operations."""
    append(oss, "turned", 0, b"a")
    oss.call("PUT", "turned", body=b"b")
    assert append(oss, "turned", 1, b"c").code == "ObjectNotAppendable"


def copy(oss: RawClient, source: str, target: str, headers: dict[str, str] | None = None) -> Answer:
    sent = {"x-oss-copy-source": f"/test-bucket/{source}", **(headers or {})}
    return oss.call("PUT", target, headers=sent)


def test_a_copy_keeps_or_replaces_metadata_as_told(oss: RawClient) -> None:
    """OSS docs, CopyObject, x-oss-metadata-directive; onto itself metadata is replaced."""
    made = oss.call(
        "PUT", "from", headers={"x-oss-meta-a": "1", "Content-Type": "a/b"}, body=b"data"
    )
    kept = copy(oss, "from", "to", {"x-oss-meta-a": "ignored"})
    assert kept.one("ETag") == made.headers["etag"].replace('"', "&quot;")
    found = oss.call("GET", "to")
    assert (found.body, found.headers["x-oss-meta-a"]) == (b"data", "1")
    assert found.headers["content-type"] == "a/b"
    replaced = {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-b": "2"}
    copy(oss, "from", "to", replaced)
    found = oss.call("HEAD", "to").headers
    assert found["x-oss-meta-b"] == "2"
    assert "x-oss-meta-a" not in found
    copy(oss, "from", "from", {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-c": "3"})
    itself = oss.call("GET", "from")
    assert (itself.body, itself.headers["x-oss-meta-c"]) == (b"data", "3")


def test_a_copy_outlives_its_source(oss: RawClient) -> None:
    """OSS docs, CopyObject: source and target are objects of their own."""
    append(oss, "seed", 0, b"one")
    copy(oss, "seed", "grown")
    append(oss, "seed", 3, b"two")
    assert oss.call("GET", "grown").body == b"one"
    assert oss.call("HEAD", "grown").headers["x-oss-object-type"] == "Normal"
    oss.call("DELETE", "seed")
    assert oss.call("GET", "grown").body == b"one"


def test_a_copy_onto_itself_changes_metadata_only(served: Served, oss: RawClient) -> None:
    """OSS docs, CopyObject: source and target are one object, and its class stays as it is."""
    itself = {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-mode": "420"}
    made = append(oss, "chmod", 0, b"one")
    bucket = served.storage.bucket("test-bucket")
    files = bucket.get(b"chmod").segments
    served.run(lambda: make_old(served, b"chmod"))
    assert copy(oss, "chmod", "chmod", itself).status == 200
    found = oss.call("GET", "chmod")
    assert found.body == b"one"
    assert found.headers["x-oss-object-type"] == "Appendable"
    assert found.headers["x-oss-meta-mode"] == "420"
    assert found.headers["etag"] == made.headers["etag"]
    assert found.headers["last-modified"] != "Sun, 09 Sep 2001 01:46:40 GMT"
    assert bucket.get(b"chmod").segments == files
    assert append(oss, "chmod", 3, b"two").status == 200
    assert oss.call("GET", "chmod").body == b"onetwo"
    oss.call("PUT", "rare", headers={"x-oss-storage-class": "IA"}, body=b"x")
    copy(oss, "rare", "rare", itself)
    assert oss.call("HEAD", "rare").headers["x-oss-storage-class"] == "IA"


def test_a_copy_onto_itself_in_another_class_is_a_copy(oss: RawClient) -> None:
    """OSS docs, CopyObject, x-oss-storage-class: the contents are copied, too."""
    append(oss, "classed", 0, b"one")
    assert copy(oss, "classed", "classed", {"x-oss-storage-class": "IA"}).status == 200
    found = oss.call("GET", "classed")
    assert (found.body, found.headers["x-oss-storage-class"]) == (b"one", "IA")
    assert found.headers["x-oss-object-type"] == "Normal"


def test_a_copy_has_limits_across_buckets_and_classes(oss: RawClient) -> None:
    """OSS docs, CopyObject: 5 GB to another bucket (here 5,000 bytes), 1 GB to another class (here
    1,000), else none; HTTP status code 400, EntityTooLarge: Source object Length exceeds ..."""
    oss.call("PUT", bucket="second-bucket")
    upload = oss.call("POST", "sized", {"uploads": ""}).one("UploadId")
    for number, size in ((1, 5_000), (2, 1)):
        query = {"uploadId": upload, "partNumber": str(number)}
        oss.call("PUT", "sized", query, body=b"x" * size)
    oss.call("POST", "sized", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
    for size in (1_000, 1_001, 5_000):
        oss.call("PUT", f"sized-{size}", body=b"x" * size)

    def copied(source: str, bucket: str, **headers: str) -> Answer:
        sent = {"x-oss-copy-source": f"/test-bucket/{source}"}
        sent |= {f"x-oss-{name.replace('_', '-')}": value for name, value in headers.items()}
        return oss.call("PUT", "sized-copy", headers=sent, bucket=bucket)

    assert copied("sized", "test-bucket").status == 200
    assert copied("sized", "test-bucket", storage_class="Standard").status == 200
    assert copied("sized-5000", "second-bucket").status == 200
    assert copied("sized-1000", "test-bucket", storage_class="IA").status == 200
    for answer in (
        copied("sized", "second-bucket"),
        copied("sized-1001", "test-bucket", storage_class="IA"),
        copied("sized-1001", "second-bucket", storage_class="IA"),
    ):
        assert (answer.status, answer.code) == (400, "EntityTooLarge")
        assert answer.one("Message") == "Source object Length exceeds the maximum allowed size."


@pytest.mark.parametrize("source", ["/test-bucket/v?versionId=CAEQ", "test-bucket/v?versionId=n"])
def test_a_copy_of_a_version_is_refused(oss: RawClient, source: str) -> None:
    """OSS docs, CopyObject, x-oss-copy-source: versions are not built, so none is copied."""
    oss.call("PUT", "v", body=b"x")
    answer = oss.call("PUT", "v-copy", headers={"x-oss-copy-source": source})
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert oss.call("HEAD", "v-copy").status == 404


def test_a_copy_obeys_conditions_on_its_source(oss: RawClient) -> None:
    """OSS docs, CopyObject, x-oss-copy-source-if-*: 412 and 304."""
    etag = oss.call("PUT", "cs", body=b"x").headers["etag"]
    prefix = "x-oss-copy-source-if-"
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for name, value, status in (
        ("match", etag, 200),
        ("match", '"0"', 412),
        ("none-match", etag, 304),
        ("none-match", '"0"', 200),
        ("unmodified-since", past, 412),
        ("unmodified-since", future, 200),
        ("modified-since", past, 200),
        ("modified-since", future, 304),
    ):
        assert copy(oss, "cs", "ct", {prefix + name: value}).status == status, (name, value)


def test_a_copy_can_be_forbidden_to_overwrite(oss: RawClient) -> None:
    """OSS docs, CopyObject, x-oss-forbid-overwrite."""
    oss.call("PUT", "cf", body=b"x")
    oss.call("PUT", "cf-there", body=b"y")
    forbid = {"x-oss-forbid-overwrite": "true"}
    assert copy(oss, "cf", "cf-there", forbid).code == "FileAlreadyExists"
    assert copy(oss, "cf", "cf-new", forbid).status == 200
    assert copy(oss, "cf-missing", "cf-new").code == "NoSuchKey"


def test_a_symlink_is_followed_by_get_and_described_by_its_parts(oss: RawClient) -> None:
    """OSS docs, PutSymlink, GetSymlink; HeadObject: size and ETag are the target's."""
    etag = oss.call("PUT", "dir/target ü", body=b"contents").headers["etag"]
    headers = {"x-oss-symlink-target": "dir%2Ftarget%20%C3%BC", "x-oss-meta-a": "link"}
    assert oss.call("PUT", "ln", {"symlink": ""}, headers).status == 200
    got = oss.call("GET", "ln", {"symlink": ""})
    assert got.headers["x-oss-symlink-target"] == "dir/target%20%C3%BC"
    found = oss.call("GET", "ln")
    assert (found.body, found.headers["etag"]) == (b"contents", etag)
    head = oss.call("HEAD", "ln").headers
    assert (head["content-length"], head["etag"]) == ("8", etag)
    assert head["x-oss-object-type"] == "Symlink"
    assert head["x-oss-meta-a"] == "link"


def test_object_meta_and_listings_describe_the_link_itself(oss: RawClient) -> None:
    """OSS docs, GetObjectMeta and ListObjectsV2 on a symlink."""
    etag = oss.call("PUT", "lt", body=b"x" * 1_000).headers["etag"]
    oss.call("PUT", "lt-link", {"symlink": ""}, {"x-oss-symlink-target": "lt"})
    meta = oss.call("HEAD", "lt-link", {"objectMeta": ""}).headers
    assert meta["etag"] != etag
    assert meta["content-length"] != "1000"
    listed = oss.call("GET", query={"prefix": "lt-link"})
    assert listed.one("Type") == "Symlink"
    assert listed.one("ETag").replace("&quot;", '"') == meta["etag"]
    assert listed.one("Size") == meta["content-length"]
    stale = oss.call("GET", "lt-link", headers={"If-Match": meta["etag"]})
    assert stale.status == 412


def test_a_symlink_to_nothing_or_to_a_symlink_cannot_be_read(oss: RawClient) -> None:
    """OSS docs, PutSymlink: SymlinkTargetNotExist, InvalidTargetType."""
    oss.call("PUT", "dangling", {"symlink": ""}, {"x-oss-symlink-target": "nowhere"})
    oss.call("PUT", "second", {"symlink": ""}, {"x-oss-symlink-target": "dangling"})
    for method in ("GET", "HEAD"):
        answer = oss.call(method, "dangling")
        assert (answer.status, answer.code) == (404, "SymlinkTargetNotExist")
        assert oss.call(method, "second").code == "InvalidTargetType"
    oss.call("PUT", "plain", body=b"")
    assert oss.call("GET", "plain", {"symlink": ""}).code == "NotSymlink"


def test_a_symlink_overwrites_unless_forbidden_and_copies_as_a_link(oss: RawClient) -> None:
    """OSS docs, PutSymlink, x-oss-forbid-overwrite; CopyObject copies the link."""
    oss.call("PUT", "over", body=b"x")
    link = {"x-oss-symlink-target": "anything"}
    forbid = {**link, "x-oss-forbid-overwrite": "true"}
    assert oss.call("PUT", "over", {"symlink": ""}, forbid).code == "FileAlreadyExists"
    assert oss.call("PUT", "over", {"symlink": ""}, link).status == 200
    assert copy(oss, "over", "over-copy").status == 200
    copied = oss.call("GET", "over-copy", {"symlink": ""})
    assert copied.headers["x-oss-symlink-target"] == "anything"


def delete_many(
    oss: RawClient, keys: list[str], extra: str = "", headers: dict[str, str] | None = None
) -> Answer:
    items = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    body = f"<Delete>{extra}{items}</Delete>".encode()
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    sent = {"Content-MD5": digest} if headers is None else headers
    return oss.call("POST", "", {"delete": "", "encoding-type": "url"}, sent, body)


def test_many_objects_are_deleted_at_once_and_missing_ones_count(oss: RawClient) -> None:
    """OSS docs, DeleteMultipleObjects."""
    oss.call("PUT", "dm/a b", body=b"")
    answer = delete_many(oss, ["dm/a b", "dm/none"])
    assert answer.all("Key") == ["dm/a%20b", "dm/none"]
    assert oss.call("HEAD", "dm/a b").status == 404


def test_a_quiet_deletion_names_nothing(oss: RawClient) -> None:
    """OSS docs, DeleteMultipleObjects, Quiet."""
    oss.call("PUT", "dq", body=b"")
    assert delete_many(oss, ["dq"], "<Quiet>true</Quiet>").all("Key") == []
    assert oss.call("HEAD", "dq").status == 404


@pytest.mark.parametrize("headers", [{}, {"Content-MD5": "bm90IG9mIHRoaXMgYm9keQ=="}])
def test_deleting_many_needs_the_right_content_md5(oss: RawClient, headers: dict[str, str]) -> None:
    """OSS docs, DeleteMultipleObjects: Content-MD5 is required and checked."""
    oss.call("PUT", "dk", body=b"")
    assert delete_many(oss, ["dk"], headers=headers).status == 400
    assert oss.call("HEAD", "dk").status == 200


def test_at_most_a_thousand_keys_are_deleted_at_once(oss: RawClient) -> None:
    """OSS docs, DeleteMultipleObjects: 1,000 keys (here 10)."""
    assert delete_many(oss, [f"d{n}" for n in range(11)]).code == "MalformedXML"
    assert delete_many(oss, [f"d{n}" for n in range(10)]).status == 200
