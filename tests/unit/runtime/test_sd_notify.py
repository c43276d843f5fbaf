"""Word to the service manager, which is there or not."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ossfs.runtime.sd_notify import SOCKET, tell


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """A socket as a manager has it, and its address as the environment gives it."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound,
    ):
        if request.param == "path":
            address = f"{directory}/notify"
            bound.bind(address)
        else:
            address = f"@ossfs-{os.getpid()}"
            bound.bind("\0" + address[1:])
        bound.settimeout(10)
        yield address, bound


def test_the_state_arrives_whole(manager: tuple[str, socket.socket]) -> None:
    address, bound = manager
    tell("READY=1\nSTATUS=naïve", {SOCKET: address})
    assert bound.recv(1000).decode() == "READY=1\nSTATUS=naïve"


@pytest.mark.parametrize(
    "address", ["", "relative", "vsock:2:1234", "/no/such/socket", "@nobody-here", "/" + 200 * "x"]
)
def test_nobody_to_tell_is_no_error(address: str) -> None:
    tell("READY=1", {SOCKET: address})
    tell("READY=1", {})


def test_a_manager_that_does_not_listen_is_not_waited_for_long() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler,
    ):
        address = f"{directory}/notify"
        bound.bind(address)
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", address)
        begun = time.monotonic()
        tell("READY=1", {SOCKET: address})
        assert time.monotonic() - begun < 5
