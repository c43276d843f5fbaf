"""Word to a service manager that this process serves, by the protocol of sd_notify(3)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

SOCKET = "NOTIFY_SOCKET"
_PATIENCE_S = 1.0
"""For a manager whose queue is full; a mount must not wait for one that has hung."""


def tell(state: str, environ: Mapping[str, str]) -> None:
    """Send lines such as READY=1 to whom the environment names, if anyone; never raises.

    A manager that does not get them starts the service anew or fails it by its own deadline.
    """
    address = environ.get(SOCKET, "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with (
        suppress(OSError, ValueError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.settimeout(_PATIENCE_S)
        manager.sendto(state.encode(), address)
