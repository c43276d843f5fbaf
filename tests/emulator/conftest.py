"""A server in a thread, with limits scaled down so that tests can pass them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from ossfs.emulator.records import Limits
from ossfs.emulator.server import Emulator, Settings
from ossfs.emulator.signing import Key
from ossfs.emulator.storage import Storage
from tests.emulator.raw import RawClient

T = TypeVar("T")

SCALED = Limits(
    minimum_part=100,
    maximum_part=5_000,
    parts=20,
    put=5_000,
    append=5_000,
    copy_across=5_000,
    copy_converting=1_000,
    delete_many=10,
)


class Served:
    """An `Emulator` on its own loop in a thread."""

    def __init__(self, directory: Path, settings: Settings, limits: Limits) -> None:
        self.storage = Storage(directory, limits)
        self.storage.bucket("test-bucket", create=True)
        ready = threading.Event()
        self.port = 0

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            emulator = Emulator(self.storage, settings)
            server = await self._loop.create_server(emulator, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._stop = asyncio.Event()
            ready.set()
            await self._stop.wait()
            server.close()
            await emulator.shutdown(0.1)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()))
        self._thread.start()
        assert ready.wait(10)

    def run(self, action: Callable[[], T]) -> T:
        """Do something on the server's thread, as storage wants it, and return its result."""

        async def act() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self.storage.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for a module; tests keep to keys of their own."""
    settings = Settings(Key("test-key-id", "test-key-secret"))
    server = Served(tmp_path_factory.mktemp("emulator"), settings, SCALED)
    yield server
    server.close()


@pytest.fixture
def oss(served: Served) -> Iterator[RawClient]:
    client = RawClient(served.port)
    yield client
    client.close()
