"""Which handler a request is for; what is not built is refused, never taken for another call.

A query parameter that OSS knows, such as `acl` or `uploadId`, makes a request another call than
it would be without: `DELETE /key?versionId=..` must not delete the object. So each of them is
the call's own, or one that the call takes, or the request is refused, even where OSS itself
would only do a little more (`x-oss-process`). Parameters that OSS does not know it ignores, and
so do we.

Sources: OSS docs, "Include signatures in the Authorization header" (what is signed), "List of
operations by function", and what the official SDKs send.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from ossfs.emulator import buckets, multipart, objects
from ossfs.emulator.context import Context
from ossfs.emulator.faults import OssFault
from ossfs.emulator.reply import Reply
from ossfs.emulator.request import Call
from ossfs.emulator.signing import V1_SUBRESOURCES

Handler: TypeAlias = Callable[[Context], Awaitable[Reply]]

_SERVICE: Mapping[tuple[str, str], Handler] = {("GET", ""): buckets.list_buckets}

_BUCKET: Mapping[tuple[str, str], Handler] = {
    ("GET", ""): buckets.list_v1,
    ("GET", "list-type"): buckets.list_v2,
    ("GET", "uploads"): multipart.list_uploads,
    ("GET", "bucketInfo"): buckets.info,
    ("GET", "location"): buckets.location,
    ("GET", "acl"): buckets.acl,
    ("PUT", ""): buckets.put_bucket,
    ("DELETE", ""): buckets.drop_bucket,
    ("POST", "delete"): buckets.delete_many,
}

_OBJECT: Mapping[tuple[str, str], Handler] = {
    ("GET", ""): objects.get,
    ("GET", "symlink"): objects.get_symlink,
    ("GET", "uploadId"): multipart.list_parts,
    ("GET", "acl"): objects.get_acl,
    ("HEAD", ""): objects.head,
    ("HEAD", "objectMeta"): objects.object_meta,
    ("PUT", ""): objects.put,
    ("PUT", "symlink"): objects.put_symlink,
    ("PUT", "uploadId"): multipart.upload_part,
    ("POST", "append"): objects.append,
    ("POST", "uploads"): multipart.initiate,
    ("POST", "uploadId"): multipart.complete,
    ("POST", "restore"): objects.restore,
    ("DELETE", ""): objects.delete,
    ("DELETE", "uploadId"): multipart.abort,
}

_COPIES: Mapping[Handler, Handler] = {
    objects.put: objects.copy,
    multipart.upload_part: multipart.upload_part_copy,
}

_TAKES: Mapping[Handler, frozenset[str]] = {
    buckets.list_v2: frozenset({"continuation-token"}),
    objects.get: frozenset(objects.OVERRIDES),
    objects.append: frozenset({"position"}),
    multipart.upload_part: frozenset({"partNumber"}),
}
"""The parameters a call takes out of those that OSS knows, besides the one that makes it."""

_PARAMETERS = frozenset[str]().union(*_TAKES.values())

_KNOWN = V1_SUBRESOURCES.union(
    """
    accessmonitor cleanRestoredObject dataPipeline legalHold list-type metadataConfiguration
    metadataInventoryTable metadataJournalTable objectWorm overwriteConfig policyStatus quota
    regions retention rtc seal userDefinedLogFieldsConfig x-oss-rename
    """.split()  # noqa: SIM905 - thirty quoted names would hide the list
)


def subresource(call: Call) -> str:
    """Return the parameter that says which call this is, or would be were it built."""
    if call.query:
        for name in call.query:
            if name in _KNOWN and name not in _PARAMETERS:
                return name
    return ""


def handler_of(call: Call) -> Handler:
    """Return who answers; raises MethodNotAllowed, NotImplemented."""
    table = _OBJECT if call.key else _BUCKET if call.bucket else _SERVICE
    sub = subresource(call)
    handler = table.get((call.method, sub))
    if handler is None:
        if any(name == sub for _, name in table):
            raise OssFault("MethodNotAllowed", details={"Method": call.method, "ResourceType": sub})
        raise OssFault("NotImplemented", details={"Header": sub})
    if call.query:
        allowed = _TAKES.get(handler, frozenset())
        for name in call.query:
            if name in _KNOWN and name != sub and name not in allowed:
                raise OssFault("NotImplemented", details={"Header": name})
    if call.has("x-oss-copy-source"):
        return _COPIES.get(handler, handler)
    return handler
