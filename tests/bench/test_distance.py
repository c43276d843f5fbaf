"""A server behind the proxy is as far away as was asked for, and nothing else about it changes."""

from __future__ import annotations

import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench.support.distance import distant
from bench.support.servers import put, soon, store_on
from tests.support.mount import Mount
from tests.support.peers import peers_on
from tests.support.weed import WeedProcess

PATIENCE_S = 30.0


@contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Run `serve` on each connection, in a thread of its own; yield where."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(64) as pool:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.settimeout(PATIENCE_S)
                pool.submit(serve, connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listening.getsockname()
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=PATIENCE_S) as client:
        yield client


def echo(connection: socket.socket) -> None:
    """Send back what comes until it ends."""
    with connection:
        while data := connection.recv(1 << 20):
            connection.sendall(data)


def reverse(connection: socket.socket) -> None:
    """Answer everything, once it has ended, in reverse."""
    with connection:
        connection.sendall(received(connection)[::-1])


def received(connection: socket.socket) -> bytes:
    """Return what comes until the end."""
    pieces = []
    while piece := connection.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes."""
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        assert piece, "the connection has ended"
        data += piece
    return bytes(data)


@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_bytes_arrive_whole_and_in_order_both_ways(latency: float) -> None:
    data = os.urandom(12_345_678)
    with serving(echo) as address, distant(address, latency, 100e6) as far, connected(far) as it:
        sender = threading.Thread(target=it.sendall, args=(data,))
        sender.start()
        assert exactly(it, len(data)) == data
        sender.join()


def test_64_connections_at_once_each_get_their_own_bytes() -> None:
    def talk(number: int) -> bool:
        data = number.to_bytes(4, "big") * 100_000
        with connected(far) as it:
            it.sendall(data)
            it.shutdown(socket.SHUT_WR)
            return received(it) == data[::-1]

    with (
        serving(reverse) as address,
        distant(address, 0.01, math.inf) as far,
        ThreadPoolExecutor(64) as pool,
    ):
        assert all(pool.map(talk, range(64)))


def test_each_request_of_a_connection_takes_the_latency() -> None:
    with serving(echo) as address, distant(address, 0.05, math.inf) as far, connected(far) as it:
        for _ in range(3):
            begun = time.monotonic()
            it.sendall(b"request")
            exactly(it, 7)
            assert time.monotonic() - begun >= 0.05


def test_half_of_the_latency_lies_in_each_direction() -> None:
    heard: list[float] = []

    def listen(connection: socket.socket) -> None:
        with connection:
            exactly(connection, 1)
            heard.append(time.monotonic())
            connection.sendall(b"!")

    with serving(listen) as address, distant(address, 0.1, math.inf) as far, connected(far) as it:
        begun = time.monotonic()
        it.sendall(b"?")
        exactly(it, 1)
        assert heard[0] - begun >= 0.05
        assert time.monotonic() - heard[0] >= 0.05


@pytest.mark.parametrize("upwards", [True, False])
def test_a_connection_carries_no_more_than_the_rate(upwards: bool) -> None:
    def serve(connection: socket.socket) -> None:
        with connection:
            if upwards:
                exactly(connection, 4_000_000)
                connection.sendall(b"!")
            else:
                connection.sendall(bytes(4_000_000))

    with serving(serve) as address, distant(address, 0, 20e6) as far, connected(far) as it:
        begun = time.monotonic()
        if upwards:
            it.sendall(bytes(4_000_000))
        exactly(it, 1 if upwards else 4_000_000)
        assert time.monotonic() - begun >= 0.2


def test_an_answer_goes_on_after_the_client_has_said_all() -> None:
    with serving(reverse) as address, distant(address, 0.01, 100e6) as far, connected(far) as it:
        it.sendall(b"abc")
        it.shutdown(socket.SHUT_WR)
        assert received(it) == b"cba"


def test_the_client_sees_the_server_close() -> None:
    def leave(connection: socket.socket) -> None:
        with connection:
            connection.sendall(b"bye")

    with serving(leave) as address, distant(address, 0.01, 100e6) as far, connected(far) as it:
        assert received(it) == b"bye"


def test_the_server_sees_the_client_close() -> None:
    closed = threading.Event()

    def wait(connection: socket.socket) -> None:
        with connection:
            if received(connection) == b"bye":
                closed.set()

    with serving(wait) as address, distant(address, 0.01, 100e6) as far:
        with connected(far) as it:
            it.sendall(b"bye")
        assert closed.wait(PATIENCE_S)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_the_client_sees_the_server_reset() -> None:
    with (
        serving(reset) as address,
        distant(address, 0.01, 100e6) as far,
        connected(far) as it,
        pytest.raises(ConnectionResetError),
    ):
        it.recv(1)


def test_the_server_sees_the_client_reset() -> None:
    seen: list[type[BaseException]] = []
    heard, told = threading.Event(), threading.Event()

    def wait(connection: socket.socket) -> None:
        with connection:
            exactly(connection, 1)
            heard.set()
            try:
                connection.recv(1)
            except OSError as error:
                seen.append(type(error))
            told.set()

    with serving(wait) as address, distant(address, 0.01, 100e6) as far:
        it = socket.create_connection(far, timeout=PATIENCE_S)
        it.sendall(b"x")
        assert heard.wait(PATIENCE_S)  # a reset overtakes what has not been read yet
        reset(it)
        assert told.wait(PATIENCE_S)
        assert seen == [ConnectionResetError]


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            distant(unused.getsockname(), 0.01, 100e6) as far,
            connected(far) as it,
            pytest.raises(ConnectionResetError),
        ):
            it.recv(1)


def test_other_connections_go_on_when_one_is_reset() -> None:
    with serving(echo) as address, distant(address, 0.01, 100e6) as far, connected(far) as it:
        other = socket.create_connection(far, timeout=PATIENCE_S)
        other.sendall(bytes(100_000))
        reset(other)
        it.sendall(b"still here")
        assert exactly(it, 10) == b"still here"


def test_a_reader_that_rests_gets_everything_afterwards() -> None:
    data = os.urandom(24 << 20)

    def pour(connection: socket.socket) -> None:
        with connection:
            connection.sendall(data)

    with serving(pour) as address, distant(address, 0.01, math.inf) as far, connected(far) as it:
        time.sleep(0.2)  # until buffers and pipe are full
        assert received(it) == data


def test_nothing_listens_any_more_afterwards() -> None:
    with serving(echo) as address, distant(address, 0, math.inf) as far:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(far, timeout=PATIENCE_S)


def test_s3_clients_read_and_write_on_a_distant_seaweedfs(tmp_path: Path) -> None:
    data = os.urandom(20 << 20)
    (tmp_path / "weed").mkdir()
    with WeedProcess(tmp_path / "weed") as weed:
        place = "127.0.0.1", int(weed.endpoint.rpartition(":")[2])
        with distant(place, 0.01, 100e6) as (_, port):
            far = weed.reached_at(port)
            with closing(store_on(far)) as store:
                put(store, b"by-store", data)
                block = bytearray(len(data))
                store.get_range_into(
                    b"by-store", 0, [memoryview(block)], if_match=None, deadline=soon()
                )
                assert block == data
            with Mount(far, tmp_path / "ours") as ours:
                assert (ours.path / "by-store").read_bytes() == data
                (ours.path / "by-ours").write_bytes(data)
            with peers_on(far, far.bucket, tmp_path / "peers")["s3fs"]() as peer:
                assert (peer.path / "by-ours").read_bytes() == data
                (peer.path / "by-s3fs").write_bytes(data)
            with closing(store_on(weed)) as store:
                assert store.head(b"by-s3fs", deadline=soon()).size == len(data)
