"""One process serves one mount: build the rooms, mount, serve until told to stop, unmount.

Order matters: the bucket answers before anything is mounted, so a wrong key is one line
and not a broken directory; `ready` is called when the kernel has begun to talk to us;
on the way out the mount goes first, then the requests under way, so nothing waits on a
process that is ending. SIGTERM and SIGINT unmount; SIGUSR1 writes a line of statistics
to the log.
"""

from __future__ import annotations

import gc
import json
import logging
import signal
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import pyfuse3
import trio

from ossfs.config.derive import memory_limit
from ossfs.config.options import MountOptions
from ossfs.credentials import CredentialsProvider
from ossfs.fuse.handshake import Handshake
from ossfs.fuse.knobs import raise_readahead
from ossfs.fuse.notify import Notifier
from ossfs.fuse.operations import Operations, Presentation
from ossfs.reading.blocks import BlockPool
from ossfs.reading.content import Source
from ossfs.reading.pushing import Pusher
from ossfs.reading.reader import Reading, ReadingLimits
from ossfs.runtime.budget import Budget
from ossfs.runtime.clock import SystemClock
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.machine import cgroup_limit, physical_memory
from ossfs.runtime.metrics import Metrics
from ossfs.store.client import StoreClient
from ossfs.store.errors import (
    DeadlineExceeded,
    Denied,
    Invalid,
    NoBucket,
    StoreError,
    Transient,
)
from ossfs.store.oss import OssStore
from ossfs.store.transfer import TransferPool
from ossfs.vfs.filesystem import FileSystem, Policy

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""How long the bucket may take to answer at start; a mount command must not hang for a minute."""
CONNECT_SECONDS = 3.0
READ_SECONDS = 20.0
"""How long the server may be silent; both are less where a request has less time in all."""
SILENCES = 3
"""As many times may a server be waited for in vain within one request: it has other addresses, and
a connection may be dead without a sign."""
SWEEP_SECONDS = 2.0
HEALTH_SECONDS = 60.0
TASK_BYTES = 2 * 1024**2
"""A pyfuse3 task holds a receive buffer of 1 MiB and what its handler holds."""
TASKS = (16, 128)
"""Least and most handlers at once; between them a sixteenth of the memory limit decides."""
IDLE_TASKS = 16
"""Idle handlers kept: with pyfuse3's one, every burst starts and ends tasks by the dozen."""


PULSE_SECONDS = 0.5
"""How long the loop may be caught in a read of a request that has been withdrawn."""


def serve(
    options: MountOptions, credentials: CredentialsProvider, *, ready: Callable[[], None]
) -> None:
    """Mount and serve until unmounted or told to stop.

    `ready` is called once the kernel talks to us. Raises UserError when the mount cannot start;
    returns after a clean unmount.
    """
    # Inodes come by the hundred thousand and form no garbage cycles (a name that goes takes its
    # links along): at Python's threshold of 700 the collector would walk all of them again and
    # again. What start-up made is here to stay.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _start_pulse()
    try:
        trio.run(_Daemon(options, credentials, ready).run)
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        if isinstance(cause, UserError):
            raise cause from None
        raise


class _Daemon:
    def __init__(
        self,
        options: MountOptions,
        credentials: CredentialsProvider,
        ready: Callable[[], None],
    ) -> None:
        self._options = options
        self._credentials = credentials
        self._ready = ready
        self._prefix = options.oss_bucket_prefix.strip("/").encode()
        if self._prefix:
            self._prefix += b"/"
        limit = memory_limit(options.total_mem_limit, cgroup_limit(), physical_memory())
        self._budget = Budget(limit)
        self._tasks = min(max(limit // 16 // TASK_BYTES, TASKS[0]), TASKS[1])
        self._budget.charge(self._tasks * TASK_BYTES)
        self._metrics = Metrics()
        self._started = trio.Event()

    async def run(self) -> None:
        options = self._options
        store = _open_store(options, self._credentials)
        await self._probe(store)
        # A thread for each handler: a request that stands in line is late before it begins.
        transfer = TransferPool(max(options.prefetch_concurrency, self._tasks))
        client = StoreClient(
            store,
            request_timeout=options.oss_request_timeout_ms / 1000,
            refresh=self._credentials.refresh,
            transfer=transfer,
            control_threads=self._tasks,
        )
        notifier = Notifier(self._metrics)
        try:
            async with trio.open_nursery() as nursery:
                filesystem = self._build(client, notifier, nursery)
                handshake = self._mount(filesystem)
                try:
                    nursery.start_soon(handshake.run)
                    nursery.start_soon(client.watch)
                    nursery.start_soon(self._sweep, filesystem)
                    nursery.start_soon(self._watch_signals, filesystem, client)
                    nursery.start_soon(self._once_started)
                    await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=self._tasks)
                    log.info("unmounted %s", options.mountpoint)
                finally:
                    pyfuse3.close(unmount=True)
                    client.close()  # requests under way end now instead of at their deadline
                    nursery.cancel_scope.cancel()
        finally:
            notifier.close()
            with trio.CancelScope(shield=True):
                await transfer.aclose()

    async def _probe(self, store: OssStore) -> None:
        """Raise a UserError unless the bucket answers."""
        client = StoreClient(store, request_timeout=PROBE_SECONDS)
        try:
            await client.probe(self._prefix)
        except StoreError as error:
            raise _start_failure(error, self._options) from error

    def _build(self, client: StoreClient, notifier: Notifier, nursery: trio.Nursery) -> FileSystem:
        options = self._options
        clock = SystemClock()
        source = Source(client, BlockPool(self._budget), nursery)
        limits = ReadingLimits(
            chunk=options.prefetch_chunk_size,
            per_file=options.prefetch_concurrency_per_file,
            total=options.prefetch_concurrency,
        )
        self._reading = Reading(source, limits, clock.monotonic)
        self._notifier = notifier
        self._budget.add_reclaimer(self._reading.reclaim)
        return FileSystem(
            client,
            self._reading,
            prefix=self._prefix,
            policy=Policy(attr_timeout=options.attr_timeout),
            clock=clock,
            budget=self._budget,
            metrics=self._metrics,
            kernel=notifier,
            nursery=nursery,
        )

    def _mount(self, filesystem: FileSystem) -> Handshake:
        options = self._options
        presentation = Presentation(
            uid=options.uid,
            gid=options.gid,
            file_mode=options.file_mode & ~options.umask,
            dir_mode=options.dir_mode & ~options.umask,
            negative_timeout=options.negative_timeout,
        )
        handshake = Handshake()

        def begin_to_serve() -> None:
            handshake.finish()
            self._started.set()

        operations = Operations(filesystem, presentation, self._metrics, begin_to_serve)
        try:
            pyfuse3.init(operations, options.mountpoint, _fuse_options(options))
            try:
                handshake.begin()
            except OSError:
                pyfuse3.close(unmount=True)
                raise
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"cannot mount on {options.mountpoint}: {error}; check /dev/fuse, fusermount3 "
                "and your permission to mount there",
                ExitStatus.FUSE,
            ) from error
        return handshake

    async def _once_started(self) -> None:
        await self._started.wait()
        options = self._options
        ahead = options.read_ahead_kb
        if ahead and raise_readahead(options.mountpoint, ahead):
            self._reading.tolerance = max(self._reading.tolerance, 2 * ahead * 1024)
        else:
            self._reading.pusher = Pusher(self._notifier.push)
        log.info(
            "mounted oss://%s/%s on %s: %d MiB for buffers, %d handlers, %s",
            options.bucket,
            options.oss_bucket_prefix,
            options.mountpoint,
            self._budget.limit >> 20,
            self._tasks,
            "pages pushed ahead" if self._reading.pusher else "readahead raised",
        )
        self._ready()

    async def _sweep(self, filesystem: FileSystem) -> None:
        health = trio.current_time() + HEALTH_SECONDS
        while True:
            await trio.sleep(SWEEP_SECONDS)
            self._reading.sweep()
            filesystem.sweep()
            if trio.current_time() >= health:
                health += HEALTH_SECONDS
                log.debug(
                    "health: %d inodes, %d MiB of buffers, peak %d MiB",
                    len(filesystem.inodes),
                    self._budget.used >> 20,
                    self._budget.peak >> 20,
                )

    async def _watch_signals(self, filesystem: FileSystem, client: StoreClient) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGUSR1) as signals:
            async for number in signals:
                if number == signal.SIGUSR1:
                    log.info("statistics: %s", json.dumps(self._statistics(filesystem, client)))
                    continue
                log.info("%s: unmounting", signal.Signals(number).name)
                pyfuse3.terminate()
                return

    def _statistics(self, filesystem: FileSystem, client: StoreClient) -> Mapping[str, Any]:
        return {
            "inodes": len(filesystem.inodes),
            "budget_limit": self._budget.limit,
            "budget_used": self._budget.used,
            "budget_peak": self._budget.peak,
            "requests": dict(client.stats.requests),
            "retries": client.stats.retries,
            "bytes_read": client.stats.bytes_read,
            **self._metrics.snapshot(),
        }


def _start_pulse() -> None:
    """Interrupt the main thread's system calls every now and then.

    pyfuse3 waits until /dev/fuse is readable and then reads it, blocking, with the GIL held. A
    caller that gets a signal at the moment of its answer makes the kernel announce an INTERRUPT
    and take it back; the read then waits for the next request of anybody, and with it everything
    here, deadlines included. pyfuse3 goes on after EINTR.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, PULSE_SECONDS, PULSE_SECONDS)


def _open_store(options: MountOptions, credentials: CredentialsProvider) -> OssStore:
    share = options.oss_request_timeout_ms / 1000 / SILENCES
    try:
        return OssStore(
            options.bucket,
            options.oss_endpoint,
            credentials,
            region=options.oss_region,
            path_style=options.path_style,
            connect_timeout=min(CONNECT_SECONDS, share),
            read_timeout=min(READ_SECONDS, share),
        )
    except Invalid as error:
        raise UserError(str(error), ExitStatus.USAGE) from error


def _start_failure(error: StoreError, options: MountOptions) -> UserError:
    """Say in one line why the bucket cannot be mounted, and what to do."""
    where = f"bucket {options.bucket!r} at {options.oss_endpoint}"
    if isinstance(error, NoBucket):
        return UserError(
            f"{where} does not exist: check the name, and the endpoint's region",
            ExitStatus.NO_BUCKET,
        )
    if isinstance(error, Denied):
        return UserError(
            f"{where} refuses these credentials ({error.code or error.status}): check the access "
            "key, its secret and its permission to list the bucket",
            ExitStatus.CREDENTIALS,
        )
    if isinstance(error, DeadlineExceeded):
        return UserError(
            f"{where} did not answer within {PROBE_SECONDS:.0f} s: check oss_endpoint and the "
            "network",
            ExitStatus.UNREACHABLE,
        )
    if isinstance(error, Transient):
        return UserError(
            f"{where} cannot be reached: {error}; check oss_endpoint and the network",
            ExitStatus.UNREACHABLE,
        )
    return UserError(f"{where} cannot be mounted: {error}")


def _fuse_options(options: MountOptions) -> set[str]:
    # Percent-encoded: libfuse splits at commas, and pyfuse3 takes ASCII only.
    name = f"oss://{options.bucket}/{quote(options.oss_bucket_prefix)}".rstrip("/")
    chosen = {
        f"fsname={name}",
        "subtype=ossfs",
        "default_permissions",
        "nosuid",
        "nodev",
        "ro",
        *options.kernel_words,
    }
    if options.allow_other:
        chosen.add("allow_other")
    return chosen
