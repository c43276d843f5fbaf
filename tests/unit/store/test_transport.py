"""The transport frames exactly, over http, through proxies and over TLS."""

from __future__ import annotations

import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

import pytest

from ossfs.store.connection import BATCH
from ossfs.store.errors import DeadlineExceeded, Invalid, Silent, Truncated, Unavailable
from ossfs.store.reply import parse_head
from ossfs.store.resolver import look_up_ipv4
from ossfs.store.transport import Origin, Proxy, Transport
from tests.support.canned import CLOSE, RESET, SILENCE, CannedServer, Script, reply
from tests.support.transport import LONG, OK, get, soon, transport_to

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo"
"""A body of five bytes but for its end."""

# -- framing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK, b"hello"),
        (reply(200), b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nhel\r\n00002;name=value\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("expect", [0, 1 << 20], ids=["buffered", "peeked"])
@pytest.mark.parametrize("split", [False, True], ids=["at once", "byte by byte"])
def test_every_framing_yields_its_body_and_keeps_the_connection(
    raw: bytes, body: bytes, expect: int, split: bool
) -> None:
    step = [raw[i : i + 1] for i in range(len(raw))] if split else raw
    with CannedServer([step, OK]) as server, transport_to(server) as transport:
        assert get(transport, expect=expect).read() == body
        assert get(transport).read() == b"hello"
        assert server.connections == 1


def test_the_length_of_a_head_reply_is_the_objects_and_no_body_is_awaited() -> None:
    head = b'HTTP/1.1 200 OK\r\nContent-Length: 123456\r\nETag: "e"\r\n\r\n'
    with CannedServer([head, OK]) as server, transport_to(server) as transport:
        answer = transport.request("HEAD", "/k", deadline=soon())
        assert answer.headers["CONTENT-LENGTH"] == "123456"
        assert answer.read() == b""
        assert get(transport).read() == b"hello"
        assert server.connections == 1


def test_headers_are_found_in_any_case_trimmed_and_joined() -> None:
    raw = b"HTTP/1.1 200 OK\r\nA:b\r\nC: \t\r\nD:  x y  \r\nd: z\r\nContent-Length: 0\r\nE:\r\n\r\n"
    with CannedServer([raw]) as server, transport_to(server) as transport:
        headers = get(transport).headers
        assert [headers[name] for name in ("a", "C", "D", "E")] == ["b", "", "x y, z", ""]
        assert "B" not in headers


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    with (
        CannedServer([b"HTTP/1.1 200 OK\r\n\r\nhello", CLOSE], [OK]) as server,
        transport_to(server) as transport,
    ):
        assert get(transport).read() == b"hello"
        assert get(transport).read() == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "header",
    ["Connection: close", "Connection: Keep-Alive, CLOSE"],
)
def test_a_connection_the_server_wants_closed_is_not_used_again(header: str) -> None:
    with (
        CannedServer([reply(200, b"a", header)], [OK]) as server,
        transport_to(server) as transport,
    ):
        assert get(transport).read() == b"a"
        assert get(transport).read() == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ],
    ids=lambda raw: raw[:60].decode(),
)
def test_a_malformed_reply_is_unavailable_and_its_connection_is_dropped(raw: bytes) -> None:
    with CannedServer([raw], [OK]) as server, transport_to(server) as transport:
        with pytest.raises(Unavailable):
            get(transport).read()
        assert get(transport).read() == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"Content-Length: 0\r\n\r\n", "64 KiB"),
        (CHUNKED[:-5] + b"2;" + b"x" * 20_000 + b"\r\nlo\r\n0\r\n\r\n", "too long"),
        (CHUNKED + b"\r\n0\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "too long"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK, "switches protocols"),
    ],
    ids=["head", "chunk line", "trailer", "101"],
)
def test_what_would_be_sound_but_for_its_size_or_status_is_refused(raw: bytes, said: str) -> None:
    with (
        CannedServer([raw]) as server,
        transport_to(server) as transport,
        pytest.raises(Unavailable, match=said),
    ):
        get(transport).read()


@pytest.mark.parametrize(
    "filling",
    [
        b"X: " + b" " * 65_000 + b"\rY",
        b"X: a" + b" \t" * 32_000 + b"\nY",
        b"a:\r\n" * 16_000 + b"b:",
        b"X" * 65_000,
        b"\r" * 65_000,
        b":\r\n" * 20_000,
    ],
    ids=["blanks", "tabs", "one name", "no colon", "CRs", "no names"],
)
def test_a_head_of_any_content_is_judged_in_no_time(filling: bytes) -> None:
    best = float("inf")
    for _ in range(5):
        begun = time.thread_time()
        with suppress(Unavailable):
            parse_head(b"HTTP/1.1 200 OK\r\n" + filling)
        best = min(best, time.thread_time() - begun)
    assert best < 0.05


def test_a_reply_over_the_limit_is_not_read() -> None:
    with CannedServer([reply(200, b"x" * 100)]) as server, transport_to(server) as transport:
        answer = get(transport)
        with pytest.raises(Unavailable, match="over 99"):
            answer.read(99)


# -- filling buffers --------------------------------------------------------------------------


@pytest.mark.parametrize("expect", [0, 1 << 20], ids=["buffered", "peeked"])
def test_buffers_fill_in_order_and_each_is_reported_when_full(expect: int) -> None:
    body = bytes(range(256)) * 400
    with CannedServer([reply(200, body), OK]) as server, transport_to(server) as transport:
        block = memoryview(bytearray(len(body)))
        buffers = [block[:1], block[1:1], block[1:70_000], block[70_000:]]
        filled: list[tuple[int, bool]] = []

        def on_filled(index: int) -> None:
            end = sum(len(buffer) for buffer in buffers[: index + 1])
            filled.append((index, bytes(block[:end]) == body[:end]))

        get(transport, expect=expect).fill(buffers, on_filled)
        assert filled == [(0, True), (1, True), (2, True), (3, True)]
        assert get(transport).read() == b"hello"
        assert server.connections == 1


def test_a_body_that_ends_early_is_truncated_and_what_was_filled_stays_right() -> None:
    with (
        CannedServer([reply(200, b"hello", length=9), CLOSE]) as server,
        transport_to(server) as transport,
    ):
        buffers = [memoryview(bytearray(4)), memoryview(bytearray(5))]
        filled: list[int] = []
        with pytest.raises(Truncated, match="4 bytes early"):
            get(transport).fill(buffers, filled.append)
        assert filled == [0]
        assert bytes(buffers[0]) == b"hell"


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param([100], id="at the first buffer's beginning"),
        pytest.param([BATCH - 1, BATCH], id="a byte less than is waited for"),
        pytest.param([2 * BATCH + 1, 3 * BATCH, 3 * BATCH + 4_999], id="in the last buffers"),
    ],
)
def test_no_end_of_a_large_body_is_waited_for_in_vain(cuts: list[int]) -> None:
    body = random.Random(1).randbytes(3 * BATCH + 5_000)
    whole = reply(200, body)
    edges = [0, *(len(whole) - len(body) + cut for cut in cuts), len(whole)]
    pieces: list[bytes | float] = []
    for start, end in pairwise(edges):
        pieces += [whole[start:end], 0.01]
    with (
        CannedServer([pieces, [OK[:-1], 0.01, OK[-1:]]]) as server,
        transport_to(server) as transport,
    ):
        blocks = [
            memoryview(bytearray(min(BATCH, len(body) - at))) for at in range(0, len(body), BATCH)
        ]
        get(transport, expect=len(body), silence=5.0).fill(blocks)
        assert b"".join(blocks) == body
        assert get(transport, silence=5.0).read() == b"hello", "it waits for single bytes again"
        assert server.connections == 1


def test_a_large_body_that_breaks_off_is_noticed_and_what_came_of_it_is_there() -> None:
    body = random.Random(2).randbytes(BATCH + 100)
    with (
        CannedServer([reply(200, body, length=4 * BATCH), CLOSE]) as server,
        transport_to(server) as transport,
    ):
        blocks = [memoryview(bytearray(BATCH)) for _ in range(4)]
        with pytest.raises(Truncated, match=f"{BATCH - 100} bytes early"):
            get(transport, expect=4 * BATCH).fill(blocks)
        assert b"".join(blocks)[: len(body)] == body


def test_a_body_longer_than_the_buffers_is_refused() -> None:
    with CannedServer([OK], [OK]) as server, transport_to(server) as transport:
        with pytest.raises(Unavailable, match="longer"):
            get(transport).fill([memoryview(bytearray(3))])
        assert get(transport).read() == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "script",
    [
        [CHUNKED, CLOSE],
        [CHUNKED + b"\r\n", RESET],
        [CHUNKED + b"\r\n"],
        [CHUNKED + b"!\r\n0\r\n\r\n"],
        [CHUNKED + b"\r\n1\r\n!\r\n0\r\n\r\n"],
        [CHUNKED + b"\r\nno chunk\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\nhello", RESET],
        [b"HTTP/1.1 200 OK\r\n\r\nhello"],
        [b"HTTP/1.1 200 OK\r\n\r\nhello!"],
    ],
    ids=range(9),
)
def test_full_buffers_are_a_success_however_the_body_goes_on(script: Script) -> None:
    with CannedServer(script, [OK]) as server, transport_to(server) as transport:
        block = memoryview(bytearray(5))
        filled: list[int] = []
        begun = time.monotonic()
        get(transport).fill([block[:4], block[4:]], filled.append)
        assert time.monotonic() - begun < 5
        assert (bytes(block), filled) == (b"hello", [0, 1])
        assert get(transport).read() == b"hello"
        assert server.connections == 2


def test_a_chunked_body_that_ends_with_the_buffers_keeps_its_connection() -> None:
    whole = [CHUNKED, b"\r\n0\r\n", b"\r\n"]
    with CannedServer([whole, OK]) as server, transport_to(server) as transport:
        get(transport).fill([memoryview(bytearray(5))])
        assert get(transport).read() == b"hello"
        assert server.connections == 1


def test_an_exception_of_the_callback_closes_the_connection() -> None:
    with CannedServer([OK], [OK]) as server, transport_to(server) as transport:

        def stop(index: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            get(transport).fill([memoryview(bytearray(2)), memoryview(bytearray(3))], stop)
        assert get(transport).read() == b"hello"
        assert server.connections == 2


# -- sending ----------------------------------------------------------------------------------


def test_pieces_of_any_number_and_kind_arrive_as_one_body() -> None:
    pieces = [bytes([i % 256]) * (i % 7) for i in range(3_000)]
    data = [bytearray(p) if i % 2 else memoryview(p) for i, p in enumerate(pieces)]
    with CannedServer([OK]) as server, transport_to(server) as transport:
        transport.request("PUT", "/k", b"X-A: b\r\n", data, deadline=soon()).read()
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert body == b"".join(pieces)
        assert f"Content-Length: {len(body)}".encode() in head
        assert head.startswith(b"PUT /k HTTP/1.1\r\nHost: 127.0.0.1:")


def test_the_answer_to_an_upload_refused_halfway_is_not_lost() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            connection.sendall(reply(403, b"denied"))
            connection.shutdown(socket.SHUT_WR)
            # Left unread, the rest of the upload makes the kernel send a reset on close.
            connection.recv(1)

    thread = threading.Thread(target=refuse)
    thread.start()
    transport = Transport(Origin("http", "127.0.0.1", listener.getsockname()[1]))
    answer = transport.request("PUT", "/k", body=[bytes(64 << 20)], deadline=soon())
    assert answer.status == 403
    assert answer.read() == b"denied"
    assert not transport._idle, "half a request is still on its way over this connection"
    thread.join()
    listener.close()
    transport.close()


# -- proxies ----------------------------------------------------------------------------------


def test_a_proxy_gets_the_whole_url_and_its_own_credentials() -> None:
    with CannedServer([OK]) as proxy:
        url = f"http://user:p%40ss@127.0.0.1:{proxy.port}"
        transport = Transport(Origin("http", "bucket.example.test", 80), proxy=url)
        assert get(transport).read() == b"hello"
        transport.close()
    head = proxy.requests[0]
    assert head.startswith(b"GET http://bucket.example.test/k HTTP/1.1\r\n")
    assert b"Host: bucket.example.test\r\n" in head
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head
    assert "p@ss" not in repr(Proxy.parse(url))


def test_https_through_a_proxy_asks_for_a_tunnel_and_reports_a_refusal() -> None:
    with CannedServer([reply(407)]) as proxy:
        transport = Transport(
            Origin("https", "bucket.example.test", 443),
            proxy=f"http://u:secret@127.0.0.1:{proxy.port}",
        )
        with pytest.raises(Unavailable, match="refuses to connect: 407") as caught:
            get(transport)
    assert proxy.requests[0].startswith(b"CONNECT bucket.example.test:443 HTTP/1.1\r\n")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["socks5://h:1", "http://", "http://h:99999"])
def test_what_is_no_http_proxy_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Proxy.parse(url)


# -- which way --------------------------------------------------------------------------------


def test_connections_start_from_the_given_addresses_in_turn() -> None:
    scripts = [[OK, CLOSE] for _ in range(4)]
    with (
        CannedServer(*scripts) as server,
        transport_to(server, bind=["127.0.0.2", "::1", "127.0.0.3"]) as transport,
    ):
        for _ in range(4):
            assert get(transport).read() == b"hello"
            server.closed.wait(5)
            server.closed.clear()
        assert [peer[0] for peer in server.peers] == ["127.0.0.2", "127.0.0.3"] * 2


@pytest.mark.parametrize(("bind", "reason"), [("192.0.2.1", "annot assign"), ("::1", "bind_ips")])
def test_an_address_that_is_not_ours_is_said(bind: str, reason: str) -> None:
    with (
        CannedServer([OK]) as server,
        transport_to(server, bind=[bind]) as transport,
        pytest.raises(Unavailable, match=reason),
    ):
        get(transport)


def test_without_ipv6_names_are_ipv4() -> None:
    assert {found.family for found in look_up_ipv4("localhost", 80)} == {socket.AF_INET}
    with pytest.raises(OSError):
        look_up_ipv4("::1", 80)


# -- TLS --------------------------------------------------------------------------------------


def test_tls_carries_bodies_both_ways_and_keeps_the_connection(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    body = bytes(range(256)) * 4_000
    with (
        CannedServer([reply(200, body), OK], tls=server_side) as server,
        transport_to(server, "https", tls=trusting) as transport,
    ):
        block = memoryview(bytearray(len(body)))
        get(transport, expect=len(body)).fill([block[:100], block[100:]])
        assert block == body
        put = transport.request("PUT", "/k", body=[body, memoryview(body)], deadline=soon())
        assert put.read() == b"hello"
        assert server.requests[1].endswith(body + body)
        assert server.connections == 1


@pytest.mark.parametrize("size", [100, 100_000, 2_000_000])
def test_a_body_cut_off_under_tls_is_truncated(
    size: int, trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    with (
        CannedServer([reply(200, bytes(size), length=size + 1), CLOSE], tls=server_side) as server,
        transport_to(server, "https", tls=trusting) as transport,
        pytest.raises(Truncated, match="1 bytes early"),
    ):
        get(transport, expect=size + 1).fill([memoryview(bytearray(size + 1))])


def test_tls_waits_no_longer_than_it_may(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    with (
        CannedServer([SILENCE], [SILENCE], tls=server_side) as server,
        transport_to(server, "https", tls=trusting) as transport,
    ):
        with pytest.raises(Silent, match="silent"):
            get(transport, silence=0.05)
        with pytest.raises(DeadlineExceeded):
            get(transport, deadline=soon(0.1))


def test_a_dead_kept_tls_connection_is_noticed(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    with (
        CannedServer([OK, CLOSE], [OK], tls=server_side) as server,
        transport_to(server, "https", tls=trusting) as transport,
    ):
        get(transport).read()
        server.closed.wait(LONG)
        assert transport.request("POST", "/k", body=[b""], deadline=soon()).read() == b"hello"


def test_a_certificate_nobody_vouches_for_is_refused(server_side: ssl.SSLContext) -> None:
    with (
        CannedServer([OK], tls=server_side) as server,
        transport_to(server, "https") as transport,
        pytest.raises(Unavailable, match="certificate"),
    ):
        get(transport)


def test_a_certificate_for_another_name_is_refused(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CannedServer([OK], tls=server_side) as server:
        # A minimal root has no /etc/hosts, so not even localhost has an address there.
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        transport = Transport(Origin("https", "localhost", server.port), tls=trusting)
        with pytest.raises(Unavailable, match="certificate of localhost"):
            get(transport)


def test_https_through_a_proxy_runs_in_the_tunnel(
    trusting: ssl.SSLContext, server_side: ssl.SSLContext
) -> None:
    with CannedServer([OK], tls=server_side) as server, tunnel_to(server.port) as port:
        transport = Transport(
            Origin("https", "127.0.0.1", server.port),
            proxy=f"127.0.0.1:{port}",
            tls=trusting,
        )
        assert get(transport).read() == b"hello"
        transport.close()
        assert server.requests[0].startswith(b"GET /k HTTP/1.1\r\n")


@contextmanager
def tunnel_to(port: int) -> Iterator[int]:
    """Accept one CONNECT and carry its bytes both ways."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other direction has ended already

    def carry() -> None:
        near, _ = listener.accept()
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            near.recv(65536)
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()
