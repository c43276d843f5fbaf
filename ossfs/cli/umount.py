"""`ossfs umount`: take the mount away and wait until its serving process is gone.

When this command returns with status 0 everything has been written and the process has ended,
so the next command may mount there again or shut the machine down.
"""

from __future__ import annotations

import errno

import click

from ossfs.cli import mounts
from ossfs.cli.terminal import say
from ossfs.runtime.failure import ExitStatus, UserError

_MOST_USERS_NAMED = 3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("mountpoint", type=click.Path())
@click.option("-l", "--lazy", is_flag=True, help="Detach now, even while files are open.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
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
    departure = mounts.Departure(mounts.serving_processes(point))
    try:
        mounts.detach(point, lazy=lazy)
    except OSError as error:
        raise UserError(_trouble(point, error), ExitStatus.MOUNTPOINT) from None
    if lazy:
        # Whoever still has files open keeps the process alive; waiting for that is not asked.
        say(f"detached {found.source} from {point}; it ends when its last file is closed")
        return
    left = departure.wait(timeout)
    if left:
        pids = ", ".join(str(pid) for pid in left)
        raise UserError(
            f"{point} is unmounted, but process {pids} still works after {timeout:g} s; see its log"
        )
    say(f"unmounted {found.source} from {point}")


def _trouble(point: str, error: OSError) -> str:
    if error.errno != errno.EBUSY:
        return f"{point} cannot be unmounted: {error.strerror}"
    users = mounts.users_of(point)
    named = ", ".join(f"{name} (pid {pid})" for pid, name in users[:_MOST_USERS_NAMED])
    if len(users) > _MOST_USERS_NAMED:
        named += f" and {len(users) - _MOST_USERS_NAMED} more"
    whom = f": used by {named}" if named else ""
    return f"{point} is busy{whom}; close what uses it, or detach it with ossfs umount -l {point}"
