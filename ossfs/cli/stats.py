"""`ossfs stats`: what a mount has done since it was mounted, asked of its serving process."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ossfs.cli import mounts
from ossfs.inquiry import ask
from ossfs.runtime.failure import ExitStatus, UserError


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint", required=False)
@click.option("-p", "--pid", type=int, help="Ask this serving process instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(mountpoint: str | None, pid: int | None, as_json: bool) -> None:
    """Print what the mount on MOUNTPOINT has done: requests, bytes, memory, errors."""
    if (mountpoint is None) == (pid is None):
        raise UserError("usage: ossfs stats MOUNTPOINT, or ossfs stats -p PID", ExitStatus.USAGE)
    asked = pid if pid is not None else server_of(mountpoint or "")
    try:
        told = ask(asked)
    except OSError as error:
        raise UserError(_trouble(asked, error), ExitStatus.FAILURE) from None
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, value in _flat(told):
        click.echo(f"{name:40} {value}")


def server_of(mountpoint: str) -> int:
    """Return the process that serves the mount on a path; UserError where there is none."""
    point = mounts.canonical(mountpoint)
    found = mounts.mount_at(point)
    if found is None or not found.ours:
        raise UserError(f"{point} is not mounted by ossfs", ExitStatus.MOUNTPOINT)
    servers = mounts.servers_of(found)
    if not servers:
        raise UserError(f"the process that served {point} is gone", ExitStatus.MOUNTPOINT)
    return servers[0]


def _flat(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _trouble(pid: int, error: OSError) -> str:
    if error.errno == errno.EACCES:
        return f"process {pid} tells its statistics to its own user and root alone"
    if error.errno == errno.ECONNREFUSED:
        return f"process {pid} serves no mount of ossfs"
    return f"process {pid} does not answer: {error.strerror or error}"
