"""The stores that the conformance suite runs on.

Every test takes `store` and makes the same assertions whichever it is; keys live under a prefix
of the test's own (`under`, or `fresh()` for each hypothesis example), so that one bucket serves
the whole session. A claim that a store cannot meet is skipped with its reason: `needs` names the
capability that it takes, `EXCLUDED` what a server of ours does otherwise. s3 runs on SeaweedFS.
What ends in -loop makes its small requests as the trio loop does.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from fastcrc import crc64

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.api import Store
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore
from tests.support.promptly import Promptly

STORES = ("memory", "faulty", "oss-v1", "oss-v4", "oss-v4-loop", "s3", "s3-loop")
REGION = "cn-hangzhou"
_SECONDS = 30.0


FILER = "SeaweedFS keeps keys as paths of a file system: "
EXCLUDED = {
    "s3": {
        "test_an_awkward_key_makes_the_whole_round[s3-b'back": FILER + "a backslash is a slash",
        "test_an_awkward_key_makes_the_whole_round[s3-b'..']": FILER + "no .. in a key",
        "test_an_awkward_key_makes_the_whole_round[s3-b'a/../../b']": FILER + "no .. in a key",
        "test_an_awkward_key_makes_the_whole_round[s3-b'a//b/']": FILER + "no empty component",
        "test_a_key_of_1023_bytes_is_held": FILER + "a component has 255 bytes at most",
        "test_double_slashes_and_dots_are_plain_characters": FILER + "they are not",
        "test_the_order_is_that_of_the_bytes": FILER
        + "a/ is listed where a would be, before a-; and there is no a beside a/",
        "test_a_token_of_nowhere_is_invalid": "SeaweedFS takes any text for a token: a key",
        "test_a_part_sent_again_replaces_the_earlier_one": "SeaweedFS completes by the ETag of"
        " a part that was replaced, too",
        "test_an_upload_that_is_over_is_no_upload": "SeaweedFS answers who completes an upload"
        " again as it did before",
        "test_an_object_is_of_the_class_that_is_named": "SeaweedFS has one storage class",
    }
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        for store, excluded in EXCLUDED.items():
            name = item.name.replace(f"{store}-loop", store)
            if not re.search(rf"(?:\[|-){store}(?:-|\])", name):
                continue
            for claim, reason in excluded.items():
                if name.startswith(claim):
                    item.add_marker(pytest.mark.skip(reason=reason))


class Timely:
    """A store whose every call gets a deadline half a minute ahead."""

    def __init__(self, store: Store, name: str = "") -> None:
        self.bare = store
        self.capabilities = store.capabilities
        self.is_filer = name.startswith("s3")
        self.cold = "STANDARD_IA" if name.startswith("s3") else "IA"

    def crc(self, body: bytes) -> int | None:
        """Return what replies say of an object of these bytes."""
        return crc64.xz(body) if self.capabilities.crc64 else None

    def holds(self, *names: bytes, base: bytes = b"") -> bool:
        """Say whether the server can have all these keys at once; a filer cannot have every one."""
        if not self.is_filer:
            return True
        keys = {base + name for name in names}
        return all(
            # Not all it says of such is encoded, and XML cannot hold them.
            all(character >= " " for character in key.decode())
            and b"\\" not in key
            and all(
                part not in (b"", b".", b"..") and len(part) <= 255
                for part in key.removesuffix(b"/").split(b"/")
            )
            # A directory's marker is no file, and so is what is above some key.
            and not (key.endswith(b"/") and key[:-1] in keys)
            and not any(other.startswith(key + b"/") for other in keys)
            for key in keys
        )

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self.bare, name), deadline=time.monotonic() + _SECONDS)

    def read(self, key: bytes, offset: int, size: int, if_match: str | None = None) -> bytes:
        """Return `size` bytes of an object."""
        body = bytearray(size)
        self.get_range_into(key, offset, [memoryview(body)], if_match=if_match)
        return bytes(body)

    def names(self, prefix: bytes) -> list[bytes]:
        """Return every key under `prefix` without it, over all pages."""
        found: list[bytes] = []
        token = None
        while True:
            page = self.list_page(prefix, delimiter=b"", token=token)
            found += [entry.key.removeprefix(prefix) for entry in page.entries]
            token = page.next_token
            if token is None:
                return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = metafunc.config.getoption("--store") or STORES
    unknown = set(chosen) - {*STORES, "oss"}
    if unknown:
        raise pytest.UsageError(f"no such store: {', '.join(unknown)}; known: {', '.join(STORES)}")
    chosen = [name for name in chosen if name in STORES]
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", chosen, indirect=True, scope="session")
    elif "served" in metafunc.fixturenames:
        names = [name for name in chosen if name not in ("memory", "faulty")]
        metafunc.parametrize("served", names, indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _capable(request: pytest.FixtureRequest) -> None:
    """Skip a test that needs what the store says it has not."""
    for marker in request.node.iter_markers("needs"):
        [capability] = marker.args
        store = request.getfixturevalue("store")
        if not getattr(store.capabilities, capability):
            pytest.skip(f"its capabilities say that it has no {capability}")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.support.emulator import EmulatorProcess

    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), region=REGION) as process:
        yield process


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.support.weed import WeedProcess

    with WeedProcess(tmp_path_factory.mktemp("weed")) as process:
        yield process


def _maker(request: pytest.FixtureRequest, name: str) -> Callable[..., Store]:
    """Return a maker of stores on the server that belongs to `name`, signing as it says."""
    # Imported here so that the other stores are tested where these cannot be imported.
    kind: Any
    base = name.removesuffix("-loop")
    if base == "s3":
        from ossfs.store.s3 import S3Store as kind
    else:
        from ossfs.store.oss import OssStore as kind
    server = request.getfixturevalue("weed" if base == "s3" else "emulator")

    def make(**other: Any) -> Store:
        keys = Credentials(
            other.pop("key_id", server.key_id), other.pop("key_secret", server.key_secret)
        )
        parameters = {
            "bucket": server.bucket,
            "endpoint": server.endpoint,
            "region": REGION if base == "oss-v4" else "",
            "path_style": True,
        } | other
        made = kind(credentials=StaticCredentials(keys), **parameters)
        return cast(Store, made if base == name else Promptly(made))

    return make


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Iterator[Timely]:
    match request.param:
        case "memory":
            made: Store = MemoryStore()
        case "faulty":
            made = FaultyStore(MemoryStore())
        case name:
            made = _maker(request, name)()
    yield Timely(made, request.param)
    made.close()


@pytest.fixture(scope="session")
def served(request: pytest.FixtureRequest) -> Iterator[Callable[..., Timely]]:
    """Make stores that differ from the usual one in some parameter."""
    made: list[Store] = []
    make = _maker(request, request.param)

    def one(**other: Any) -> Timely:
        made.append(make(**other))
        return Timely(made[-1], request.param)

    yield one
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def fresh() -> Callable[[], bytes]:
    """Return a prefix that nothing else uses, at each call."""
    numbers = itertools.count()
    return lambda: b"t%d/" % next(numbers)


@pytest.fixture
def under(fresh: Callable[[], bytes]) -> bytes:
    return fresh()
