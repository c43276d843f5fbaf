"""The serving process of one mount; started by `ossfs mount`, never by hand.

Reads its configuration from an inherited descriptor, sets up the log, serves until the mount
ends, and tells its parent once, over another descriptor, that it serves or why it cannot. The
last two words of its command line, the bucket and the mount point, are for `ps` and `ossfs
umount` only. Heavy imports happen here and nowhere else in the commands.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from ossfs.cli import handover
from ossfs.cli.terminal import complain
from ossfs.config.options import MountOptions
from ossfs.credentials import CredentialsProvider
from ossfs.runtime import logs
from ossfs.runtime.failure import ExitStatus, UserError

_logger = logging.getLogger("ossfs.serve")
_INTERRUPTED = 130
_STDERR = 2


class Parent:
    """The one who waits for our word: `ossfs mount` behind a pipe, or a person at the terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self.told = False

    def tell(self, word: handover.Word, line: str) -> None:
        """Say `word` to a process or `line` to a person; only the first call counts."""
        if self.told:
            return
        self.told = True
        if self._fd is None:
            complain(line)
            return
        # The parent may have been interrupted; the mount is the user's all the same.
        with suppress(BrokenPipeError):
            os.write(self._fd, word.encode())
        os.close(self._fd)


def main(words: Sequence[str]) -> int:
    """Serve; return the status to leave with."""
    given = dict(word.split("=", 1) for word in words if word.startswith("--"))
    word_fd = int(given["--word-fd"]) if "--word-fd" in given else None
    if word_fd is not None:
        os.set_inheritable(word_fd, False)
    parent = Parent(word_fd)
    try:
        options, provider = handover.decode(handover.read_all(int(given["--config-fd"])))
        _start_log(options, provider)
        _serve(options, provider, parent)
    except UserError as error:
        if word_fd is not None or parent.told:
            _logger.error("%s", error.message)
        parent.tell(handover.Word(error.message, error.status), error.message)
        return error.status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        _logger.exception("the serving process ends on an error that is its own fault")
        line = f"internal error: {type(error).__name__}: {error}; see the log"
        parent.tell(handover.Word(line, ExitStatus.FAILURE), line)
        return ExitStatus.FAILURE
    return ExitStatus.OK


def _start_log(options: MountOptions, provider: CredentialsProvider) -> None:
    if options.foreground:
        logs.configure(directory=None, level=options.log_level, secrets=provider.secrets)
        return

    def follow(fd: int) -> None:
        # What libfuse and a dying interpreter print on stderr belongs into the log as well.
        os.dup2(fd, _STDERR)

    logs.configure(
        directory=options.log_dir,
        level=options.log_level,
        secrets=provider.secrets,
        on_open=follow,
    )


def _serve(options: MountOptions, provider: CredentialsProvider, parent: Parent) -> None:
    daemon = importlib.import_module("ossfs.daemon")
    place = f"{options.source} on {options.mountpoint}"

    def ready() -> None:
        parent.tell(handover.Word(), f"mounted {place}")

    _logger.info("starting: %s", options)
    os.chdir("/")
    daemon.serve(options, provider, ready=ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
