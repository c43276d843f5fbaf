"""The reply to INIT: what we add to it and what we leave alone."""

from __future__ import annotations

import struct

from ossfs.fuse.handshake import BACKGROUND, improved

PARALLEL_DIROPS = 1 << 18  # FUSE_PARALLEL_DIROPS, linux/fuse.h
ASYNC_READ = 1


def init(flags: int) -> bytes:
    """An INIT as kernels since 5.17 send it: header, then fuse_init_in."""
    body = struct.pack("=IIIII11I", 7, 45, 131_072, flags, 0, *[0] * 11)
    return struct.pack("=IIQQIIII", 40 + len(body), 26, 2, 0, 0, 0, 0, 0) + body


def reply(flags: int, error: int = 0) -> bytes:
    """A reply as libfuse 3.14 writes it: header, then fuse_init_out."""
    body = struct.pack("=IIIIHHIIHH8I", 7, 36, 131_072, flags, 0, 0, 1 << 20, 1, 256, 0, *range(8))
    return struct.pack("=IiQ", 16 + len(body), error, 2) + body


def test_parallel_operations_in_a_directory_and_background_requests_are_asked_for() -> None:
    better = improved(init(ASYNC_READ | PARALLEL_DIROPS), reply(ASYNC_READ))
    assert struct.unpack_from("=IIIIHH", better, 16) == (
        7,
        36,
        131_072,
        ASYNC_READ | PARALLEL_DIROPS,
        BACKGROUND,
        BACKGROUND * 3 // 4,
    )
    before = reply(ASYNC_READ)
    assert better[:28] == before[:28]
    assert better[36:] == before[36:]


def test_what_the_kernel_does_not_offer_is_not_asked_for() -> None:
    (flags,) = struct.unpack_from("=I", improved(init(ASYNC_READ), reply(ASYNC_READ)), 28)
    assert flags == ASYNC_READ


def test_a_refusal_is_passed_on_as_it_is() -> None:
    refusal = struct.pack("=IiQ", 16, -71, 2)
    assert improved(init(PARALLEL_DIROPS), refusal) == refusal
