"""TLS in memory: what was received is decrypted as far as it goes, an end is told from a pause."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress

import pytest

from ossfs.store.encryption import Encryption


class Peer:
    """The server's end, in memory too."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.end = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self, client: Encryption) -> None:
        while True:
            over = client.shake_hands()
            self._incoming.write(client.take())
            if over:
                self.end.do_handshake()
                return
            with suppress(ssl.SSLWantReadError):
                self.end.do_handshake()
            client.received(self.sent())

    def sent(self) -> bytes:
        return self._outgoing.read()

    def says(self, data: bytes) -> bytes:
        """Return `data` as it goes over the wire."""
        self.end.write(data)
        return self.sent()

    def takes_leave(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):  # for the client's own farewell
            self.end.unwrap()
        return self.sent()

    def hears(self, client: Encryption) -> bytes:
        self._incoming.write(client.take())
        return self.end.read(1 << 20)


@pytest.fixture
def pair(trusting: ssl.SSLContext, server_side: ssl.SSLContext) -> tuple[Encryption, Peer]:
    client, peer = Encryption(trusting, "127.0.0.1"), Peer(server_side)
    peer.shake_hands(client)
    client.received(peer.sent())  # tickets
    assert client.decrypt(memoryview(bytearray(1))) is None
    return client, peer


def test_many_records_received_at_once_are_decrypted_at_once(
    pair: tuple[Encryption, Peer],
) -> None:
    client, peer = pair
    data = bytes(range(251)) * 1_000
    client.received(peer.says(data))
    view = memoryview(bytearray(len(data)))
    assert client.decrypt(view) == len(data)
    assert view == data
    assert client.decrypt(view) is None


def test_a_record_of_which_a_part_has_come_waits_for_the_rest(
    pair: tuple[Encryption, Peer],
) -> None:
    client, peer = pair
    first, second = peer.says(b"a" * 1_000), peer.says(b"b" * 1_000)
    view = memoryview(bytearray(2_000))
    client.received(first + second[:500])
    assert client.decrypt(view) == 1_000
    assert client.decrypt(view[1_000:]) is None
    client.received(second[500:])
    assert client.decrypt(view[1_000:]) == 1_000
    assert view == b"a" * 1_000 + b"b" * 1_000


@pytest.mark.parametrize(
    "received",
    [lambda peer: peer.says(b"answerxx"), lambda peer: peer.says(b"answer") + peer.says(b"xx")],
    ids=["in a record", "behind it"],
)
def test_what_was_not_asked_for_is_surplus(
    received: Callable[[Peer], bytes], pair: tuple[Encryption, Peer]
) -> None:
    client, peer = pair
    client.received(received(peer))
    assert client.decrypt(memoryview(bytearray(6))) == 6
    assert client.has_surplus
    assert client.decrypt(memoryview(bytearray(2))) == 2
    assert not client.has_surplus


@pytest.mark.parametrize("leaving", [Peer.takes_leave, lambda peer: b""], ids=["said", "cut off"])
def test_the_end_is_told_after_the_last_byte_and_for_ever(
    leaving: Callable[[Peer], bytes], pair: tuple[Encryption, Peer]
) -> None:
    client, peer = pair
    client.received(peer.says(b"last") + leaving(peer))
    client.received(b"")
    view = memoryview(bytearray(10))
    assert client.decrypt(view) == 4
    assert client.decrypt(view) == 0
    assert client.decrypt(view) == 0


def test_bytes_that_were_tampered_with_are_an_error(pair: tuple[Encryption, Peer]) -> None:
    client, peer = pair
    wire = bytearray(peer.says(b"bytes"))
    wire[-1] ^= 1
    client.received(wire)
    with pytest.raises(ssl.SSLError):
        client.decrypt(memoryview(bytearray(5)))


def test_what_is_encrypted_waits_to_be_sent(pair: tuple[Encryption, Peer]) -> None:
    client, peer = pair
    assert not client.to_send
    assert client.encrypt(b"request") == 7
    assert client.to_send > 7
    assert peer.hears(client) == b"request"
    assert not client.to_send
