"""The stores that the conformance suite runs on.

Every test takes `store` and makes the same assertions whichever it is; keys live under a prefix
of the test's own (`under`, or `fresh()` for each hypothesis example), so that one bucket serves
the whole session. A claim that a store cannot meet is excluded in the test, with its reason.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.api import Store
from ossfs.store.faulty import FaultyStore
from ossfs.store.memory import MemoryStore

STORES = ("memory", "faulty", "oss-v1", "oss-v4")
REGION = "cn-hangzhou"
_SECONDS = 30.0


class Timely:
    """A store whose every call gets a deadline half a minute ahead."""

    def __init__(self, store: Store) -> None:
        self.bare = store
        self.capabilities = store.capabilities

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
    unknown = set(chosen) - set(STORES)
    if unknown:
        raise pytest.UsageError(f"no such store: {', '.join(unknown)}; known: {', '.join(STORES)}")
    if "store" in metafunc.fixturenames:
        metafunc.parametrize("store", chosen, indirect=True, scope="session")
    elif "oss" in metafunc.fixturenames:
        names = [name for name in chosen if name.startswith("oss")]
        metafunc.parametrize("oss", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.support.emulator import EmulatorProcess

    with EmulatorProcess(tmp_path_factory.mktemp("emulator"), region=REGION) as process:
        yield process


def _oss(request: pytest.FixtureRequest, name: str) -> Callable[..., Store]:
    """Return a maker of OSS stores on the emulator, signing as `name` says."""
    # Imported here so that the other stores are tested where these cannot be imported.
    from ossfs.store.oss import OssStore

    emulator = request.getfixturevalue("emulator")

    def make(**other: Any) -> Store:
        keys = Credentials(
            other.pop("key_id", emulator.key_id), other.pop("key_secret", emulator.key_secret)
        )
        parameters = {
            "bucket": emulator.bucket,
            "endpoint": emulator.endpoint,
            "region": REGION if name == "oss-v4" else "",
            "path_style": True,
        } | other
        return OssStore(credentials=StaticCredentials(keys), **parameters)

    return make


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest) -> Iterator[Timely]:
    match request.param:
        case "memory":
            made: Store = MemoryStore()
        case "faulty":
            made = FaultyStore(MemoryStore())
        case name:
            made = _oss(request, name)()
    yield Timely(made)
    made.close()


@pytest.fixture(scope="session")
def oss(request: pytest.FixtureRequest) -> Iterator[Callable[..., Timely]]:
    """Make OSS stores that differ from the usual one in some parameter."""
    made: list[Store] = []
    make = _oss(request, request.param)

    def one(**other: Any) -> Timely:
        made.append(make(**other))
        return Timely(made[-1])

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
