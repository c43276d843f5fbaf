"""The serving process of one mount; started by `ossfs mount`, never by hand.

Reads its configuration from an inherited descriptor, sets up the log, serves until the mount
ends, and tells its parent once, over another descriptor, that it serves or why it cannot. Where
nobody is left to hear that it serves, the mount is nobody's and is taken away again. The last two
words of its command line, the bucket and the mount point, are for `ps` only.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from ossfs.cli import handover, signals
from ossfs.cli.terminal import complain
from ossfs.config.again import Again
from ossfs.config.options import MountOptions
from ossfs.credentials import CredentialsProvider, sources
from ossfs.credentials.renewed import Renewed
from ossfs.runtime import logs, sd_notify
from ossfs.runtime.failure import ExitStatus, UserError, in_a_line

_logger = logging.getLogger("ossfs.serve")
_INTERRUPTED = 130
_STDIN = 0
_STDERR = 2
_FILES_WANTED = 16384
"""Descriptors; a connection is one, and 1,024 is what most systems give unasked."""


class Parent:
    """The one who waits for our word: `ossfs mount` behind a pipe, or a person at the terminal."""

    def __init__(self, word_fd: int | None) -> None:
        self.fd = word_fd
        """None where a person waits, or none does any more."""
        self._by_pipe = word_fd is not None
        self.told = False

    def tell(self, word: handover.Word, line: str) -> bool:
        """Say `word` to a process or `line` to a person, once; False when nobody is there."""
        if self.told:
            return True
        self.told = True
        if not self._by_pipe:
            complain(line)
            return True
        fd, self.fd = self.fd, None
        assert fd is not None
        try:
            os.write(fd, word.encode())
        except BrokenPipeError:
            return False
        finally:
            os.close(fd)
        return True


def main(words: Sequence[str]) -> int:
    """Serve; return the status to leave with."""
    given = dict(word.split("=", 1) for word in words if word.startswith("--"))
    if "--config-fd" not in given:
        complain("this is the serving process of ossfs mount, which alone can start it")
        return ExitStatus.USAGE
    word_fd, claim_fd = (_inherited(given, name) for name in ("--word-fd", "--claim-fd"))
    parent = Parent(word_fd)
    log = "the lines above" if word_fd is None else ""
    try:
        signals.release()
        options, source, again = handover.decode(handover.read_all(int(given["--config-fd"])))
        provider = Renewed(source, every=options.credential_refresh_interval)
        _start_log(options, provider)
        log = log or logs.path_in(options.log_dir)
        _raise_file_limit()
        if not options.foreground:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again
        _serve(options, provider, again, parent, claim_fd)
    except UserError as error:
        if word_fd is not None or parent.told:
            _logger.error("%s", error.message)
        parent.tell(handover.Word(error.message, error.status), error.message)
        return error.status
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        _logger.exception("the serving process ends on an error that is its own fault")
        line = in_a_line(error) + (f"; see {log}" if log else "")
        parent.tell(handover.Word(line, ExitStatus.FAILURE), line)
        return ExitStatus.FAILURE
    return ExitStatus.OK


def _inherited(given: dict[str, str], name: str) -> int | None:
    """Take over a descriptor, so that no process started from here has it as well."""
    if name not in given:
        return None
    fd = int(given[name])
    os.set_inheritable(fd, False)
    return fd


def _start_log(options: MountOptions, provider: CredentialsProvider) -> None:
    password = unquote(urlsplit(options.http_proxy).password or "")

    def secrets() -> tuple[str, ...]:
        return (*provider.secrets(), password) if password else provider.secrets()

    if options.foreground:
        chosen = options.log_dir if options.log_dir in (logs.STDOUT, logs.SYSLOG) else None
        logs.configure(directory=chosen, level=options.log_level, secrets=secrets)
        return

    def follow(fd: int) -> None:
        # What libfuse and a dying interpreter print on stderr belongs into the log as well.
        os.dup2(fd, _STDERR)

    logs.configure(
        directory=options.log_dir,
        level=options.log_level,
        secrets=secrets,
        on_open=follow,
        max_bytes=options.log_file_max_size,
        files=options.log_file_max_count,
    )


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _serve(
    options: MountOptions,
    provider: Renewed,
    again: Again,
    parent: Parent,
    claim_fd: int | None,
) -> None:
    daemon = importlib.import_module("ossfs.daemon")
    place = f"{options.source} on {options.mountpoint}"

    def ready() -> bool:
        if not options.foreground:
            with suppress(OSError):  # where it has been somebody's session already
                os.setsid()
        # The mount table speaks for us from here on.
        if claim_fd is not None:
            os.close(claim_fd)
        if options.foreground:  # in the background the service is whoever called `ossfs mount`
            sd_notify.tell(f"READY=1\nMAINPID={os.getpid()}\nSTATUS=mounted {place}", os.environ)
        return parent.tell(handover.Word(), f"mounted {place}")

    def reread() -> MountOptions:
        asked, keys = again.read()
        if keys is not None:
            provider.exchange(sources.find(keys, options.bucket, again.environ, options.store))
        return asked

    _logger.info("starting: %s", options)
    os.chdir("/")
    daemon.serve(
        options,
        provider,
        ready=ready,
        starter=parent.fd,
        reread=reread if again.reads else None,
        until_hangup=options.foreground and os.isatty(_STDIN),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
