"""A request is the call it says it is, or refused: never taken for another."""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module

import alibabacloud_oss_v2.operations
import pytest
from alibabacloud_oss_v2.signer.v1 import SignerV1
from oss2.auth import Auth

from tests.emulator.conftest import Served
from tests.emulator.raw import RawClient

BUILT = {
    ("GET", "bucketInfo"),
    ("GET", "location"),
    ("GET", "acl"),
    ("GET", "uploads"),
    ("GET", "symlink"),
    ("GET", "uploadId"),
    ("HEAD", "objectMeta"),
    ("PUT", "symlink"),
    ("PUT", "uploadId"),
    ("POST", "append"),
    ("POST", "delete"),
    ("POST", "uploads"),
    ("POST", "uploadId"),
    ("POST", "restore"),
    ("DELETE", "uploadId"),
}


def sdk_subresources() -> set[str]:
    """What the official SDKs sign as sub-resources, but the parameters that any GET may have."""
    found = set(Auth._subresource_key_set) | set(SignerV1._subresource_key_set)
    package = alibabacloud_oss_v2.operations
    for module in pkgutil.iter_modules(package.__path__):
        source = inspect.getsource(import_module(f"{package.__name__}.{module.name}"))
        for names in re.findall(r"'sub-resource': ?\[([^]]*)\]", source):
            found.update(re.findall(r"'([\w-]+)'", names))
    return {name for name in found if not name.startswith("response-")} - {"MetaQuery", "action"}


def test_the_sdks_name_many_subresources() -> None:
    assert {"versionId", "publicAccessBlock", "seal", "x-oss-process"} < sdk_subresources()
    assert len(sdk_subresources()) > 80


@pytest.mark.parametrize("name", sorted(sdk_subresources()))
def test_a_subresource_that_is_not_built_is_refused(served: Served, name: str) -> None:
    """OSS docs, Common errors, NotImplemented and MethodNotAllowed."""
    oss = RawClient(served.port, v4=True)
    oss.call("PUT", bucket="empty-bucket")
    oss.call("PUT", "kept", body=b"keep me")
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        for key, bucket in (("kept", "test-bucket"), ("new", "empty-bucket"), ("", "empty-bucket")):
            if (method, name) in BUILT:
                continue
            answer = oss.call(method, key, {name: "x"}, bucket=bucket)
            assert answer.status in (405, 501), (method, key, name)
            assert answer.code in ("MethodNotAllowed", "NotImplemented")
    assert oss.call("GET", "", {name: ""}, bucket="").status in (405, 501)
    assert oss.call("GET", "kept").body == b"keep me"
    listing = oss.call("GET", bucket="empty-bucket")
    assert (listing.status, listing.all("Key")) == (200, [])
    oss.close()


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("PUT", "kept", {"partNumber": "1"}),
        ("GET", "kept", {"partNumber": "1"}),
        ("PUT", "kept", {"position": "0"}),
        ("POST", "kept", {"append": "", "position": "0", "partNumber": "1"}),
        ("DELETE", "kept", {"uploadId": "x", "partNumber": "1"}),
        ("DELETE", "kept", {"uploadId": "x", "versionId": "y"}),
        ("GET", "kept", {"acl": "", "symlink": ""}),
        ("PUT", "kept", {"symlink": "", "uploadId": "x"}),
        ("GET", "", {"continuation-token": "YQ=="}),
        ("GET", "", {"list-type": "2", "versions": ""}),
        ("HEAD", "kept", {"objectMeta": "", "response-expires": "x"}),
    ],
)
def test_a_parameter_of_another_call_is_refused(
    served: Served, method: str, key: str, query: dict[str, str]
) -> None:
    """OSS docs, Common errors, NotImplemented: none of these is the call it would be without."""
    oss = RawClient(served.port, v4=True)
    oss.call("PUT", "kept", body=b"keep me")
    for order in (query, dict(reversed(query.items()))):
        answer = oss.call(method, key, order)
        assert (answer.status, answer.code) == (501, "NotImplemented"), order
    assert oss.call("GET", "kept").body == b"keep me"
    oss.close()


def test_a_parameter_that_oss_does_not_know_is_ignored(oss: RawClient) -> None:
    """OSS ignores them; the SDKs let a caller add any, such as one that defeats a cache."""
    oss.call("PUT", "kept", body=b"keep me")
    assert oss.call("GET", "kept", {"nobody-knows": "this"}).body == b"keep me"
