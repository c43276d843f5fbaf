"""`ossfs umount`: take the mount away and wait until its serving process is gone.

When this command returns with status 0 the process has written what it could and has ended, so the
next command may mount there again or shut the machine down. (No close() has returned 0 for what
could not be written, unless `sync_upload` is off; the mount's log names it.) It never looks into
the mount itself, which may hang or be closed to this user; and it waits for no process but the one
that serves this very mount.
"""

from __future__ import annotations

import errno
import os
import time

import click

from ossfs.cli import mounts
from ossfs.cli.terminal import say
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.mount_table import Mount

_MOST_USERS_NAMED = 3
_LONGEST_WAIT_S = 7 * 24 * 3600
_LOOK_S = 1.0
"""How often to see whether the serving process has been stopped meanwhile."""


def _seconds(ctx: click.Context, option: click.Parameter, value: float) -> float:
    if not 0 <= value <= _LONGEST_WAIT_S:  # nan is not either
        raise click.BadParameter(f"{value:g} is not between 0 and {_LONGEST_WAIT_S} seconds")
    return value


# Not click.Path, which would look at the mount.
@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint")
@click.option("-l", "--lazy", is_flag=True, help="Detach now, even while files are open.")
@click.option(
    "--timeout",
    type=float,
    callback=_seconds,
    default=120.0,
    show_default=True,
    help="Seconds to wait for the serving process to finish.",
)
def umount(mountpoint: str, lazy: bool, timeout: float) -> None:
    """Unmount MOUNTPOINT and wait until its serving process is gone."""
    point = mounts.canonical(mountpoint)
    found = mounts.mount_at(point)
    if found is None:
        raise UserError(f"{point} is not mounted", ExitStatus.MOUNTPOINT)
    if not found.ours:
        raise UserError(
            f"{point} is a mount of type {found.fstype}, not one of ossfs; use umount {point}",
            ExitStatus.MOUNTPOINT,
        )
    departure = mounts.Departure(mounts.servers_of(found))
    sights = mounts.sights_of(found.device)
    try:
        mounts.detach(point, lazy=lazy)
    except OSError as error:
        raise UserError(_trouble(found, error), ExitStatus.MOUNTPOINT) from None
    if lazy:
        # Whoever still has files open keeps the process alive; waiting for that is not asked.
        say(f"detached {found.shown} from {point}; it ends when its last file is closed")
        return
    _wait(departure, found, sights, timeout)


def _wait(
    departure: mounts.Departure, mount: Mount, sights: frozenset[mounts.Sight], timeout: float
) -> None:
    """Wait for the process of a mount that is gone here, unless it has reason to go on.

    `sights` were its mounts before: what is left of them keeps the process.
    """
    deadline = time.monotonic() + timeout
    while left := departure.wait(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
        pids = ", ".join(str(pid) for pid in left)
        others = sights & mounts.sights_of(mount.device)
        if others:
            places = ", ".join(sorted({sight.mount.point for sight in others}))
            say(
                f"unmounted {mount.shown} from {mount.point}; process {pids} goes on: in other "
                f"places or mount namespaces it is still mounted on {places}"
            )
            return
        if all(mounts.is_stopped(pid) for pid in left):
            raise UserError(
                f"{mount.point} is unmounted, but process {pids} is stopped; kill -CONT {pids} "
                "lets it end"
            )
        if time.monotonic() >= deadline:
            raise UserError(
                f"{mount.point} is unmounted, but process {pids} still works after {timeout:g} s; "
                "see its log"
            )
    say(f"unmounted {mount.shown} from {mount.point}")


def _trouble(mount: Mount, error: OSError) -> str:
    point = mount.point
    if error.errno == errno.EPERM and mount.owner != os.geteuid():
        return f"{point} was mounted by {mount.owner_name}: only {mount.entitled} can unmount it"
    if error.errno != errno.EBUSY:
        return f"{point} cannot be unmounted: {error.strerror}"
    users = mounts.users_of(point)
    named = ", ".join(f"{name} (pid {pid})" for pid, name in users[:_MOST_USERS_NAMED])
    if len(users) > _MOST_USERS_NAMED:
        named += f" and {len(users) - _MOST_USERS_NAMED} more"
    whom = f": used by {named}" if named else ""
    return f"{point} is busy{whom}; close what uses it, or detach it with ossfs umount -l {point}"
