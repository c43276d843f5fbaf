"""Connections: made in time, kept while they are sound, waited for no longer than they may be."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from ossfs.store.connection import BATCH, Connection, Limits
from ossfs.store.errors import DeadlineExceeded, Silent, Unavailable
from ossfs.store.resolver import Resolver, SocketAddress
from ossfs.store.transport import Origin, Transport
from tests.support.canned import CLOSE, HANG_UP, RESET, SILENCE, CannedServer, reply
from tests.support.transport import LONG, OK, get, soon, transport_to

# -- connections ------------------------------------------------------------------------------


def test_a_connection_waits_for_many_bytes_only_where_as_many_are_sure_to_follow() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours)
        limits = Limits(soon(), LONG)
        view = memoryview(bytearray(1_000))
        for following, low in [(2 * BATCH, BATCH), (BATCH, BATCH), (BATCH - 1, 1), (0, 1)]:
            theirs.sendall(bytes(1_000))
            assert connection.fill(view, limits, following=following) == 1_000
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == low


def test_a_tls_connection_never_waits_for_more_than_is_to_come(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    size = 2 * BATCH + 5_000
    body = bytes(range(251)) * (size // 251 + 1)
    with encrypted(trusting, server_side) as (connection, theirs):
        limits = Limits(soon(), LONG)
        view = memoryview(bytearray(size))
        sending = threading.Thread(target=theirs.sendall, args=(body[:size],))
        sending.start()
        for start in range(0, size, 40_000):
            piece = view[start : start + 40_000]
            following = size - start - len(piece)
            assert connection.fill(piece, limits, following=following) == len(piece)
        sending.join()
        assert view == body[:size]
        low = socket.SOL_SOCKET, socket.SO_RCVLOWAT
        assert connection._socket.getsockopt(*low) == 1


@contextmanager
def encrypted(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> Iterator[tuple[Connection, ssl.SSLSocket]]:
    """Give a connection that speaks TLS, and the server's end of it."""
    near, far = socket.socketpair()
    accepted: list[ssl.SSLSocket] = []
    accepting = threading.Thread(
        target=lambda: accepted.append(server_side.wrap_socket(far, server_side=True))
    )
    accepting.start()
    connection = Connection(near)
    connection.encrypt(trusting, "127.0.0.1", Limits(soon(), LONG))
    accepting.join()
    with accepted[0]:
        yield connection, accepted[0]
    connection.close()


@pytest.mark.parametrize("end", [CLOSE, HANG_UP, RESET], ids=repr)
def test_a_dead_kept_connection_costs_one_replay(end: object) -> None:
    with CannedServer([OK, end], [OK]) as server, transport_to(server) as transport:  # type: ignore[list-item]
        get(transport).read()
        assert get(transport, replay=True).read() == b"hello"
        assert server.connections == 2


def test_a_replayed_request_is_replayed_only_once() -> None:
    with CannedServer([OK, HANG_UP], [HANG_UP], [OK]) as server, transport_to(server) as transport:
        get(transport).read()
        with pytest.raises(Unavailable, match="no reply"):
            get(transport, replay=True)
        assert server.connections == 2


def test_a_kept_connection_that_says_nothing_discredits_those_kept_as_long() -> None:
    with (
        CannedServer([OK, SILENCE], [OK, SILENCE], [OK]) as server,
        transport_to(server) as transport,
    ):
        answers = [get(transport), get(transport)]
        for answer in answers:
            answer.read()
        with pytest.raises(Silent, match="silent"):
            get(transport, silence=0.05)
        assert get(transport, silence=LONG).read() == b"hello"
        assert server.connections == 3


FORGED = reply(200, b"forged")


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", reply(200, FORGED)),
        ("DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 71\r\n\r\n" + FORGED),
        ("GET", OK + FORGED),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FORGED),
        ("GET", reply(200, b"x" * 40_000) + FORGED),
    ],
    ids=["HEAD", "204", "length", "chunked", "large"],
)
@pytest.mark.parametrize("expect", [0, 1 << 20], ids=["buffered", "peeked"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_follows_a_reply_is_not_taken_for_the_next_one(
    method: str,
    raw: bytes,
    expect: int,
    scheme: str,
    trusting: ssl.SSLContext,
    server_side: ssl.SSLContext,
) -> None:
    with (
        CannedServer([raw, FORGED], [OK], tls=server_side if scheme == "https" else None) as server,
        transport_to(server, scheme, tls=trusting if scheme == "https" else None) as transport,
    ):
        transport.request(method, "/k", deadline=soon(), expect=expect).read()
        for connection in transport._idle:
            select.select([connection], [], [], 2)  # what follows may still be on its way
        assert get(transport, replay=True).read() == b"hello"
        assert server.connections == 2


def test_what_must_not_happen_twice_is_not_sent_twice() -> None:
    with CannedServer([OK, HANG_UP], [OK]) as server, transport_to(server) as transport:
        get(transport).read()
        with pytest.raises(Unavailable, match="no reply"):
            transport.request("POST", "/k", body=[b"x"], deadline=soon())
        assert len(server.requests) == 2


def test_what_must_not_happen_twice_avoids_a_connection_known_to_be_dead() -> None:
    with CannedServer([OK, CLOSE], [OK]) as server, transport_to(server) as transport:
        get(transport).read()
        server.closed.wait()
        answer = transport.request("POST", "/k", body=[b"x"], deadline=soon())
        assert answer.read() == b"hello"
        assert len(server.requests) == 2


def test_no_reply_on_a_fresh_connection_is_unavailable_at_once() -> None:
    with CannedServer([HANG_UP], [OK]) as server, transport_to(server) as transport:
        with pytest.raises(Unavailable, match="no reply"):
            get(transport, replay=True)
        assert server.connections == 1


def test_a_connection_idle_for_too_long_is_replaced() -> None:
    with CannedServer([OK], [OK]) as server, transport_to(server) as transport:
        transport.max_idle = -1.0
        get(transport).read()
        get(transport).read()
        assert server.connections == 2


def test_closing_drops_idle_connections() -> None:
    with CannedServer([OK], [OK]) as server, transport_to(server) as transport:
        get(transport).read()
        transport.close()
        assert server.closed.wait(LONG)


def test_closing_breaks_off_the_calls_under_way() -> None:
    asked = threading.Event()

    def say_nothing(request: bytes) -> bytes:
        asked.set()
        return b""

    with CannedServer([say_nothing]) as server, transport_to(server) as transport:

        def call() -> None:
            with pytest.raises(Unavailable, match="no reply"):
                get(transport, silence=LONG)

        thread = threading.Thread(target=call)
        thread.start()
        assert asked.wait(LONG)
        transport.close()
        thread.join(5)
        assert not thread.is_alive()


def test_closing_goes_on_though_connections_come_and_go_meanwhile() -> None:
    class Busy(weakref.WeakSet[Connection]):
        looks = 0

        def __iter__(self) -> Iterator[Connection]:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("Set changed size during iteration")
            return super().__iter__()

    with CannedServer([OK]) as server, transport_to(server) as transport:
        get(transport).read()
        transport._all = Busy(transport._all)
        transport.close()
        assert server.closed.wait(LONG)


def test_once_closed_no_connection_is_made() -> None:
    with CannedServer([OK]) as server, transport_to(server) as transport:
        transport.close()
        with pytest.raises(Unavailable, match="closed"):
            get(transport)
        assert server.connections == 0


def test_a_connection_that_was_being_made_while_all_were_closed_is_of_no_use() -> None:
    with CannedServer([OK]) as server, transport_to(server) as transport:

        def close_meanwhile(host: str, port: int) -> list[SocketAddress]:
            transport.close()
            return [SocketAddress(socket.AF_INET, ("127.0.0.1", server.port))]

        transport._resolver = Resolver("example.test", server.port, close_meanwhile)
        with pytest.raises(Unavailable):
            get(transport)
        assert server.requests == []


def test_breaking_off_a_tls_connection_lets_nothing_out_unencrypted(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with encrypted(trusting, server_side) as (connection, theirs):
        really = socket.socket.shutdown

        def while_another_thread_sends(self: socket.socket, how: int) -> None:
            connection.send([b"Authorization: secret"], Limits(soon(), LONG))
            really(self, how)

        monkeypatch.setattr(socket.socket, "shutdown", while_another_thread_sends)
        connection.abort()
        with socket.socket(fileno=theirs.detach()) as raw:
            assert b"secret" not in raw.recv(4096)
            assert raw.recv(4096) == b""


def test_threads_at_once_have_connections_of_their_own() -> None:
    scripts = [[OK] * 160 for _ in range(8)]  # any one may serve them all
    with CannedServer(*scripts) as server, transport_to(server) as transport:
        bodies: list[bytes] = []

        def work() -> None:
            for _ in range(20):
                bodies.append(get(transport).read())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == [b"hello"] * 160
        assert server.connections <= 8


# -- waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [SILENCE, reply(200, b"hel", length=5)], ids=["head", "body"])
def test_a_server_that_falls_silent_is_unavailable_before_the_deadline(step: object) -> None:
    with CannedServer([step]) as server, transport_to(server) as transport:  # type: ignore[list-item]
        with pytest.raises(Silent, match="silent") as caught:
            get(transport, silence=0.05).read()
        assert not isinstance(caught.value, DeadlineExceeded)


@pytest.mark.parametrize("step", [SILENCE, reply(200, b"hel", length=5)], ids=["head", "body"])
def test_the_deadline_ends_every_wait(step: object) -> None:
    with CannedServer([step]) as server, transport_to(server) as transport:  # type: ignore[list-item]
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            get(transport, deadline=soon(0.1)).read()
        assert 0.09 <= time.monotonic() - started < 5


def test_a_server_that_takes_no_data_is_waited_for_until_the_deadline_only() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    transport = Transport(Origin("http", "127.0.0.1", listener.getsockname()[1]))
    with pytest.raises(DeadlineExceeded):
        transport.request("PUT", "/k", body=[bytes(64 << 20)], deadline=soon(0.1))
    listener.close()
    transport.close()


@contextmanager
def deaf() -> Iterator[int]:
    """Listen on a port where nobody ever gets through: its queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_server_that_cannot_be_reached_is_given_up_long_before_the_deadline() -> None:
    with deaf() as port:
        transport = Transport(Origin("http", "127.0.0.1", port), connect_timeout=0.2)
        begun = time.monotonic()
        with pytest.raises(Silent, match=r"within 0\.2 s"):
            get(transport)
        assert 0.2 <= time.monotonic() - begun < 5


def test_the_addresses_of_a_server_share_the_time_to_connect() -> None:
    with (
        deaf() as port,
        CannedServer([OK]) as server,
        transport_to(server, connect_timeout=2.0) as transport,
    ):
        found = [SocketAddress(socket.AF_INET, ("127.0.0.1", p)) for p in (port, server.port)]
        transport._resolver = Resolver("example.test", port, lambda host, port: found)
        assert get(transport).read() == b"hello"


def test_an_address_that_is_silent_outweighs_those_that_fail_at_once() -> None:
    with deaf() as port:
        transport = Transport(Origin("http", "example.test", port), connect_timeout=0.2)
        silent = SocketAddress(socket.AF_INET, ("127.0.0.1", port))
        nowhere = SocketAddress(socket.AF_INET, ("255.255.255.255", port))  # unreachable
        for found in ([silent, nowhere], [nowhere, silent]):
            transport._resolver = Resolver("example.test", port, lambda host, port, f=found: f)
            with pytest.raises(Silent, match="no connection"):
                get(transport)


def test_an_address_of_a_kind_that_the_kernel_does_not_know_is_passed_over() -> None:
    with CannedServer([OK]) as server, transport_to(server) as transport:
        unknown = SocketAddress(255, ("::1", server.port, 0, 0))
        known = SocketAddress(socket.AF_INET, ("127.0.0.1", server.port))
        transport._resolver = Resolver("example.test", 80, lambda host, port: [unknown, known])
        assert get(transport).read() == b"hello"


def test_a_handshake_that_hangs_is_given_up_long_before_the_deadline() -> None:
    # The server takes the connection and says nothing.
    with (
        CannedServer() as server,
        transport_to(server, "https", connect_timeout=0.2) as transport,
    ):
        begun = time.monotonic()
        with pytest.raises(Silent, match=r"within 0\.2 s"):
            get(transport)
        assert 0.2 <= time.monotonic() - begun < 5


def test_a_past_deadline_sends_nothing() -> None:
    with CannedServer([OK, OK]) as server, transport_to(server) as transport:
        get(transport).read()
        with pytest.raises(DeadlineExceeded):
            get(transport, deadline=time.monotonic())
        assert len(server.requests) == 1


def test_a_refused_connection_is_unavailable_and_names_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    transport = Transport(Origin("http", "127.0.0.1", port))
    with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}: .*refused"):
        get(transport)


# -- names ------------------------------------------------------------------------------------


def test_a_hung_name_server_is_waited_for_until_the_deadline_only() -> None:
    release = threading.Event()

    def hang(host: str, port: int) -> list[SocketAddress]:
        release.wait(LONG)
        return []

    with pytest.raises(DeadlineExceeded, match=r"example\.test"):
        Resolver("example.test", 80, hang).addresses(soon(0.05))
    release.set()


def test_a_known_address_serves_while_a_name_server_hangs_and_there_is_time_to_connect() -> None:
    release = threading.Event()
    hanging = threading.Event()
    now = [0.0]

    with CannedServer([OK, CLOSE], [OK, CLOSE], [OK]) as server, transport_to(server) as transport:
        found = [SocketAddress(socket.AF_INET, ("127.0.0.1", server.port))]

        def hang(host: str, port: int) -> list[SocketAddress]:
            if now[0]:
                hanging.set()
                release.wait(LONG)
            return found

        transport._resolver = Resolver("example.test", server.port, hang, lambda: now[0])
        transport._connect_timeout = 2.0
        transport.max_idle = -1.0
        get(transport).read()
        now[0] += Resolver.lifetime
        begun = time.monotonic()
        assert get(transport).read() == b"hello"
        waited = time.monotonic() - begun
        assert Resolver.share * 2.0 <= waited < 2.0
        assert hanging.is_set()
        # Whoever comes next does not wait for it again: no time would be left to connect.
        transport._resolver.share = LONG
        assert get(transport).read() == b"hello"
        release.set()


def test_a_look_up_without_a_thread_is_unavailable_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    found = [SocketAddress(socket.AF_INET, ("127.0.0.1", 80))]
    now = [0.0]
    resolver = Resolver("example.test", 80, lambda host, port: found, lambda: now[0])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Unavailable, match=r"example\.test: .*can't start new thread"):
            resolver.addresses(soon())
    assert resolver.addresses(soon()) == found
    now[0] += Resolver.lifetime
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert resolver.addresses(soon()) == found


def test_a_name_nobody_knows_is_unavailable() -> None:
    def unknown(host: str, port: int) -> list[SocketAddress]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Unavailable, match=r"example\.test: Name or service not known"):
        Resolver("example.test", 80, unknown).addresses(soon())


def test_an_answer_is_kept_for_a_while_and_outlives_a_name_server_that_fails() -> None:
    answers: list[list[SocketAddress]] = [[SocketAddress(socket.AF_INET, ("127.0.0.1", 80))]]
    now = [0.0]
    asked = 0

    def flaky(host: str, port: int) -> list[SocketAddress]:
        nonlocal asked
        asked += 1
        if not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        return answers.pop()

    resolver = Resolver("example.test", 80, flaky, lambda: now[0])
    first = resolver.addresses(soon())
    assert resolver.addresses(soon()) == first
    assert asked == 1
    now[0] += Resolver.lifetime
    assert resolver.addresses(soon()) == first
    assert resolver.addresses(soon()) == first
    assert asked == 2
