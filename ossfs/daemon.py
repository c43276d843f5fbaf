"""One process serves one mount: build the rooms, mount, serve until told to stop, unmount.

Order matters: the bucket answers before anything is mounted, so a wrong key is one line
and not a broken directory; `ready` is called when the kernel has begun to talk to us.

On the way out the mount goes first: plainly while we still serve, lazily if it is in use,
so that no new request comes. Then what was written and is not in the bucket is saved, as long
as that gets on; the log says what could not be. Then requests under way are broken off and
answered EIO, and nothing waits on a process that is ending. SIGTERM and SIGINT start that, in
the foreground of a terminal SIGHUP too, which else reads the options again; SIGUSR1 writes a line
of statistics to the log.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import pyfuse3
import trio

from ossfs import bucket, inquiry, policies
from ossfs.config.derive import MEMORY_FLOOR, largest_memory_cache, memory_limit
from ossfs.config.options import MountOptions
from ossfs.config.values import show_size
from ossfs.credentials import CredentialsProvider
from ossfs.fuse import plain
from ossfs.fuse.knobs import raise_readahead
from ossfs.fuse.notify import Notifier
from ossfs.fuse.operations import Operations
from ossfs.fuse.session import Session
from ossfs.reading.content import Source
from ossfs.reading.disk import DiskCache
from ossfs.reading.pushing import Pusher
from ossfs.reading.reader import Reading
from ossfs.reading.retained import Retained
from ossfs.runtime import machine
from ossfs.runtime.blocks import BLOCK, BlockPool
from ossfs.runtime.budget import Budget
from ossfs.runtime.clock import SystemClock
from ossfs.runtime.failure import ExitStatus, UserError, cause_of
from ossfs.runtime.logs import set_level
from ossfs.runtime.metrics import Metrics
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.transfer import TransferPool
from ossfs.vfs.names import WritableFileSystem
from ossfs.vfs.warming import warm
from ossfs.writing.context import Writing, WritingLimits
from ossfs.writing.memory import Memory
from ossfs.writing.modes import Modes
from ossfs.writing.recovery import Recovered, recover
from ossfs.writing.spill import SPILL_DIRECTORY, Spill
from ossfs.writing.staging import Staging

T = TypeVar("T")

log = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
HEALTH_SECONDS = 60.0
RENEW_SECONDS = (1.0, 15.0)
"""Least and most time between two looks at whether keys are to be renewed; ossfs 2.0 takes 15."""
TASK_BYTES = 2 * 1024**2
"""A pyfuse3 task holds a receive buffer of 1 MiB and what its handler holds."""
TASKS = 512
"""Most handlers at once. Those beyond IDLE_TASKS exist while they are needed; a WRITE that waits,
the only one that holds memory, is charged to the budget for as long as it does."""
IDLE_TASKS = 16
"""Idle handlers kept: with pyfuse3's one, every burst starts and ends tasks by the dozen."""
WAITING = (16, 256)
"""Least and most WRITEs that wait for memory at once; between them a quarter of the memory limit
decides, at the MiB each holds. Far below TASKS, so that others are always answered."""
THREADS = 128
"""Threads for requests, whatever the options say."""
DRAIN_SLACK = 15.0
"""Seconds beyond a request's time for which saving may stand still before it is given up."""
DRAIN_LOG = 5.0
"""Seconds between two lines on what is still to be saved."""
SPILL = 1024**3
"""Bytes that may lie on disk for want of memory, or the memory limit if that is more."""
DISK_BACKLOG = 256 * 1024**2
"""Bytes that wait for the cache's disk at most; one reader of 1.3 GB/s gets 64 MiB ahead of it."""
LEAST_THREADS = 16
"""Transfer threads, whatever the options and the limits say."""
PULSE_SECONDS = 0.5
"""How long the loop may be caught in a read of a request that has been withdrawn."""
UNMOUNT_SECONDS = 2.0
"""How long taking the mount away may take before requests under way are broken off."""
LINGER_SECONDS = 6.0
"""A process told to end is gone by then, whatever it waits for (a connect takes up to 3 s)."""

_FORSAKEN = "whoever was to start this mount has gone"


def serve(
    options: MountOptions,
    credentials: CredentialsProvider,
    *,
    ready: Callable[[], bool],
    starter: int | None = None,
    reread: Callable[[], MountOptions] | None = None,
    until_hangup: bool = False,
) -> None:
    """Mount and serve until unmounted or told to stop.

    `ready` is called once the kernel talks to us and says whether anybody wants the mount;
    `starter` is a pipe's end that breaks when whoever waits for `ready` has gone. At SIGHUP
    `reread` gives the options as they are now (it may block), unless the mount is there
    `until_hangup`. Raises UserError when the mount cannot start; returns after a clean unmount.
    """
    # Inodes come by the hundred thousand and form no garbage cycles (a name that goes takes its
    # links along): at Python's threshold of 700 the collector would walk all of them again and
    # again. What start-up made is here to stay.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    _start_pulse()
    try:
        trio.run(_Daemon(options, credentials, ready, starter, reread, until_hangup).run)
    except BaseExceptionGroup as group:
        cause = cause_of(group)
        if isinstance(cause, UserError | KeyboardInterrupt):
            raise cause from None
        raise
    finally:
        # Python gives SIGALRM its default action back, which is to kill, long before it has ended.
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Parts(NamedTuple):
    """What a mount is made of."""

    filesystem: WritableFileSystem
    operations: Operations
    client: StoreClient


class _Daemon:
    def __init__(
        self,
        options: MountOptions,
        credentials: CredentialsProvider,
        ready: Callable[[], bool],
        starter: int | None,
        reread: Callable[[], MountOptions] | None,
        until_hangup: bool,
    ) -> None:
        self._reread = reread
        self._until_hangup = until_hangup
        self._options = options
        self._credentials = credentials
        self._ready = ready
        self._starter = starter
        self._starting = trio.CancelScope()
        self._prefix = options.oss_bucket_prefix.strip("/").encode()
        if self._prefix:
            self._prefix += b"/"
        self._budget, self._pool = _reserve(options.total_mem_limit, options.memory_data_cache_size)
        self._budget.charge(IDLE_TASKS * TASK_BYTES)
        # Enough threads: a request that stands in line is late before it begins.
        self._threads = _spared_threads(max(options.prefetch_concurrency, THREADS))
        # Before anything is mounted: a directory that cannot be used is one line.
        self._staging = _stage(options)
        self._metrics = Metrics()
        self._disk = _disk_cache(options, self._metrics, self._budget)
        self._started = trio.Event()
        self._session = Session(options.mountpoint, options.fuse_device_fd)
        self._serving = trio.CancelScope()
        self._leaving = False
        self._looking = trio.Lock()
        self._list_nodes = options.readdirplus or not plain.possible()
        if self._list_nodes is not options.readdirplus:
            log.warning("readdirplus=false has no effect: this pyfuse3 is not known well enough")

    async def run(self) -> None:
        store = bucket.open_store(self._options, self._credentials)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_starter)
            await bucket.probe(store, self._prefix, self._options)
            asks = self._signals()
            for number in asks:
                signal.signal(number, signal.SIG_IGN)  # so again when the mount is gone
            with trio.open_signal_receiver(*asks) as signals:
                # Whoever takes signals is gone before the receiver is: trio fails otherwise.
                async with trio.open_nursery() as watching:
                    await self._run(store, signals, watching)
                    watching.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    async def _run(self, store: Store, signals: AsyncIterator[int], watching: trio.Nursery) -> None:
        """Mount, serve, unmount; signals are taken by `watching` until all of that is over."""
        options = self._options
        transfer = TransferPool(self._threads)
        client = StoreClient(
            store,
            request_timeout=options.oss_request_timeout_ms / 1000,
            retry=bucket.retry_of(options),
            refresh=self._credentials.refresh,
            transfer=transfer,
            control_threads=min(THREADS, self._threads),
        )
        notifier = Notifier(self._metrics)
        try:
            # What is to be saved is sent by tasks that outlive any other that fails.
            async with trio.open_nursery() as saving, trio.open_nursery() as nursery:
                filesystem = self._build(client, notifier, nursery, saving)
                disconnected = False
                presentation = policies.presentation_of(options, list_nodes=self._list_nodes)
                operations = Operations(
                    filesystem, presentation, self._metrics, self._begin_to_serve
                )
                self._session.mount(operations, _fuse_options(options))
                try:
                    nursery.start_soon(self._session.shake_hands)
                    parts = _Parts(filesystem, operations, client)
                    watching.start_soon(self._watch_signals, signals, watching, parts)
                    nursery.start_soon(inquiry.answer, self._answers(parts))
                    nursery.start_soon(client.watch)
                    nursery.start_soon(self._renew_keys, client)
                    nursery.start_soon(self._sweep, filesystem)
                    nursery.start_soon(self._evict, filesystem, notifier)
                    nursery.start_soon(self._flush_now_and_then, filesystem)
                    nursery.start_soon(self._once_started)
                    nursery.start_soon(self._recover)
                    if self._disk is not None:
                        nursery.start_soon(self._disk.scan)
                    with self._serving:
                        await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=TASKS)
                        disconnected = not self._leaving
                    log.info("unmounted %s", options.mountpoint)
                finally:
                    await self._drain(filesystem)
                    notifier.close()
                    client.close()  # requests under way end now instead of at their deadline
                    try:
                        away = partial(self._session.clear_away, disconnected=disconnected)
                        await _patiently(away)
                    finally:
                        self._session.close()
                        nursery.cancel_scope.cancel()
                        saving.cancel_scope.cancel()
        finally:
            notifier.close()  # where nothing was mounted
            if self._disk is not None:
                self._disk.close()
            with trio.CancelScope(shield=True):
                await transfer.aclose()

    def _signals(self) -> list[signal.Signals]:
        """Return what to listen to; not SIGHUP in the foreground if it is ignored, as by nohup."""
        chosen = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        if not (self._options.foreground and ignored):
            chosen.append(signal.SIGHUP)
        return chosen

    async def _watch_starter(self) -> None:
        """Until we serve: end when whoever waits for that has gone, since nobody wants us then."""
        if self._starter is None:
            return
        with self._starting:
            # Of the writing end of a pipe nothing can be read: it becomes ready when it breaks.
            await trio.lowlevel.wait_readable(self._starter)
            raise UserError(_FORSAKEN)

    def _build(
        self,
        client: StoreClient,
        notifier: Notifier,
        nursery: trio.Nursery,
        saving: trio.Nursery,
    ) -> WritableFileSystem:
        options = self._options
        clock = SystemClock()
        spill = Spill(options.temp_dir or SPILL_DIRECTORY, max(SPILL, self._budget.limit))
        memory = Memory(
            self._pool,
            self._budget,
            spill,
            quota=self._budget.limit // 2,
            most_waiting=min(max(self._budget.limit // 4 // BLOCK, WAITING[0]), WAITING[1]),
            patience=options.oss_request_timeout_ms / 1000 + DRAIN_SLACK,
        )
        writing_limits = WritingLimits(
            part=options.upload_buffer_size,
            concurrency=options.upload_concurrency,
            copy_concurrency=options.upload_copy_concurrency,
        )
        self._writing = Writing(client, memory, writing_limits, saving, clock.monotonic)
        modes = Modes(
            self._writing,
            self._staging,
            options.enable_appendable_object,
            options.appendable_object_autoswitch_threshold,
        )
        writes = policies.writes_of(options)
        policy = policies.policy_of(options, list_nodes=self._list_nodes)
        cache = options.memory_data_cache_size
        retained = Retained(cache) if cache else None
        source = Source(client, self._pool, nursery, self._disk, retained)
        self._reading = Reading(source, policies.limits_of(options), clock.monotonic)
        self._notifier = notifier
        self._budget.add_reclaimer(self._reading.reclaim)
        return WritableFileSystem(
            client,
            self._writing,
            modes,
            writes,
            partial(secrets.token_hex, 8),
            client,
            self._reading,
            prefix=self._prefix,
            policy=policy,
            clock=clock,
            budget=self._budget,
            metrics=self._metrics,
            kernel=notifier,
            nursery=nursery,
        )

    def _begin_to_serve(self) -> None:
        self._session.begin()
        self._started.set()

    async def _once_started(self) -> None:
        await self._started.wait()
        options, device = self._options, self._session.device
        ahead = options.read_ahead_kb
        if ahead and raise_readahead(device, ahead):
            self._reading.readahead_raised(ahead * 1024)
        else:
            self._reading.pusher = Pusher(self._notifier.push)
        log.info(
            "mounted %s on %s: %d MiB for buffers, %s, %s",
            options.source,
            options.mountpoint,
            self._budget.limit >> 20,
            "pages pushed ahead" if self._reading.pusher else "readahead raised",
            "read-only"
            if options.ro
            else f"files of up to {self._writing.largest >> 30} GiB at one upload",
        )
        self._starting.cancel()
        if not self._leaving and not self._ready():
            raise UserError(_FORSAKEN)

    async def _renew_keys(self, client: StoreClient) -> None:
        """Fetch new keys before the old ones expire, so that no request is refused for it."""
        least, most = RENEW_SECONDS
        clock = SystemClock()

        def left() -> float:
            due = self._credentials.renew_at()
            return most if due is None else due - clock.wall()

        while True:
            if left() <= 0:
                await client.refresh()
            await trio.sleep(min(max(left(), least), most))

    async def _evict(self, filesystem: WritableFileSystem, notifier: Notifier) -> None:
        """Have the kernel forget idle inodes beyond the threshold, now and then."""
        while True:
            await trio.sleep(self._options.inode_cache_eviction_interval_ms / 1000)
            threshold = self._options.inode_cache_eviction_threshold
            if not threshold or len(filesystem.inodes) <= threshold:
                continue
            try:
                covered = self._session.covered()
            except (OSError, UserError) as error:
                log.warning("no inodes are evicted: mount points cannot be told (%s)", error)
                continue
            names = filesystem.surplus(threshold, covered)
            if names:
                log.debug("asking the kernel to forget %d inodes", len(names))
                notifier.drop_names(names)

    async def _sweep(self, filesystem: WritableFileSystem) -> None:
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

    async def _flush_now_and_then(self, filesystem: WritableFileSystem) -> None:
        interval = self._options.flush_interval_ms / 1000
        while interval:
            await trio.sleep(interval)
            await filesystem.flush_all()

    async def _recover(self) -> None:
        """Finish what a former mount acknowledged and did not."""
        await self._started.wait()
        if self._staging is None:
            return
        counts = await recover(self._staging, self._writing)
        if counts != Recovered():
            log.info(
                "of a former mount's files %d are in the bucket now, %d are kept as conflicts, "
                "%d are left for the next mount",
                counts.uploaded,
                counts.conflicts,
                counts.left,
            )

    async def _drain(self, filesystem: WritableFileSystem) -> None:
        """Save what is not in the bucket, for as long as that gets on."""
        patience = self._options.oss_request_timeout_ms / 1000 + DRAIN_SLACK
        if filesystem.unsaved:
            log.info("saving %d files before the end", len(filesystem.unsaved))
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_drain, filesystem, scope, patience)
                await filesystem.flush_all()
                await self._writing.idle.wait()
                nursery.cancel_scope.cancel()
        for key in filesystem.unsaved:
            log.error("%r could not be saved in time: what was written to it is lost", key)

    async def _watch_drain(
        self, filesystem: WritableFileSystem, scope: trio.CancelScope, patience: float
    ) -> None:
        reached, since = self._writing.progress, trio.current_time()
        while True:
            await trio.sleep(DRAIN_LOG)
            log.info("still saving %d files before the end", len(filesystem.unsaved))
            if self._writing.progress != reached:
                reached, since = self._writing.progress, trio.current_time()
            elif trio.current_time() - since > patience:
                scope.cancel()

    async def _watch_signals(
        self,
        signals: AsyncIterator[int],
        nursery: trio.Nursery,
        parts: _Parts,
    ) -> None:
        async for number in signals:
            if number == signal.SIGUSR1:
                log.info("statistics: %s", json.dumps(self._statistics(parts)))
            elif number == signal.SIGHUP and not self._until_hangup:
                nursery.start_soon(self._look_again, parts)
            elif self._leaving:
                log.info("%s: unmounting already", signal.Signals(number).name)
            else:
                self._leaving = True
                log.info("%s: unmounting", signal.Signals(number).name)
                nursery.start_soon(self._leave, parts.filesystem, parts.client)

    async def _look_again(self, parts: _Parts) -> None:
        """Fetch the keys afresh, read the options again, and take on what may change."""
        async with self._looking:
            await self._look_once_more(parts)

    async def _look_once_more(self, parts: _Parts) -> None:
        if self._reread is None:
            await parts.client.refresh()
            log.info("SIGHUP: no file of options to read again; the keys were fetched afresh")
            return
        try:
            asked = await trio.to_thread.run_sync(self._reread, abandon_on_cancel=True)
        except UserError as error:
            log.error("SIGHUP: %s; the options stay as they are", error.message)
            return
        except Exception:
            log.exception("SIGHUP: the options cannot be read; they stay as they are")
            return
        await parts.client.refresh()
        changed = policies.differing(self._options, asked)
        fixed = [name for name in changed if name not in policies.LIVE]
        live = [name for name in changed if name in policies.LIVE]
        self._options = replace(self._options, **{name: getattr(asked, name) for name in live})
        self._adopt(self._options, parts)
        if fixed:
            log.warning(
                "SIGHUP: cannot change while mounted: %s; unmount and mount again",
                ", ".join(fixed),
            )
        shown = ", ".join(f"{name}={getattr(asked, name)}" for name in live)
        log.info("SIGHUP: options read again: %s", shown or "nothing changes")

    def _adopt(self, options: MountOptions, parts: _Parts) -> None:
        """Tell the rooms what may change while mounted."""
        parts.filesystem.adopt(
            policies.policy_of(options, list_nodes=self._list_nodes), policies.writes_of(options)
        )
        parts.operations.presentation = policies.presentation_of(
            options, list_nodes=self._list_nodes
        )
        self._reading.limits = policies.limits_of(options)
        parts.client.adopt(options.oss_request_timeout_ms / 1000, bucket.retry_of(options))
        set_level(options.log_level)

    async def _leave(self, filesystem: WritableFileSystem, client: StoreClient) -> None:
        """Take the mount away, save, then break off what is under way, which ends the serving."""
        if await _patiently(partial(self._session.unmount, lazily=False)) is False:
            log.info("%s is in use: detaching it", self._options.mountpoint)
            await _patiently(partial(self._session.unmount, lazily=True))
        await self._drain(filesystem)
        _end_within(LINGER_SECONDS)
        # A push may wait for a page whose READ waits for the store: that one fails now, and is
        # answered while we still serve.
        self._notifier.close()
        client.close()
        with trio.move_on_after(UNMOUNT_SECONDS):
            await self._notifier.closed()
        self._serving.cancel()

    def _answers(self, parts: _Parts) -> Mapping[str, inquiry.Handler]:
        """Return what this process tells and does for its user's commands."""

        async def statistics(_: inquiry.Message, send: inquiry.Send) -> None:
            await send(self._statistics(parts))

        async def warmed(question: inquiry.Message, send: inquiry.Send) -> None:
            if self._disk is None:
                await send({"none": True})
                return
            source = self._reading.source
            await warm(parts.filesystem, source, str(question["do"]), question["paths"], send)
            await send({"disk_cache": self._disk.statistics()})

        return {inquiry.STATISTICS: statistics, inquiry.WARM: warmed}

    def _statistics(self, parts: _Parts) -> Mapping[str, Any]:
        filesystem, client = parts.filesystem, parts.client
        return {
            "inodes": len(filesystem.inodes),
            "budget_limit": self._budget.limit,
            "budget_used": self._budget.used,
            "budget_peak": self._budget.peak,
            "requests": dict(client.stats.requests),
            "retries": client.stats.retries,
            "throttled": client.stats.throttled,
            "bytes_read": client.stats.bytes_read,
            "bytes_written": client.stats.bytes_written,
            "unsaved_files": len(filesystem.unsaved),
            "writes_waiting": self._writing.memory.waiting,
            **({} if self._disk is None else {"disk_cache": self._disk.statistics()}),
            **self._metrics.snapshot(),
        }


async def _patiently(call: Callable[[], T]) -> T | None:
    """Run `call` in a thread, cancelled or not, but leave it alone after UNMOUNT_SECONDS (None).

    What it still waits for then comes when the connection to the kernel is cut.
    """
    with trio.move_on_after(UNMOUNT_SECONDS, shield=True):
        try:
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
        except RuntimeError:  # not one more thread can be had
            return call()
    return None


def _end_within(seconds: float) -> None:
    """Make sure that this process has ended after `seconds`; the mount is gone by then."""

    def leave() -> None:
        log.warning("requests to the store do not end: leaving without them")
        os._exit(0)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    with suppress(RuntimeError):  # not one more thread can be had
        timer.start()


def _start_pulse() -> None:
    """Interrupt the main thread's system calls every now and then.

    pyfuse3 waits until /dev/fuse is readable and then reads it, blocking, with the GIL held. A
    caller that gets a signal at the moment of its answer makes the kernel announce an INTERRUPT
    and take it back; the read then waits for the next request of anybody, and with it everything
    here, deadlines included. pyfuse3 goes on after EINTR.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, PULSE_SECONDS, PULSE_SECONDS)


def _spared_threads(wanted: int) -> int:
    """Return how many transfer threads there may be: fewer where address space is limited."""
    space = machine.address_space()
    if space is None:
        return wanted
    machine.spare_address_space()
    return min(wanted, max(space // 16 // machine.THREAD_BYTES, LEAST_THREADS))


def _reserve(total_mem_limit: int, cache: int) -> tuple[Budget, BlockPool]:
    """Return the budget and the memory behind it; UserError where that cannot be had.

    An automatic limit makes do with less; a given one is refused, for it is what was asked.
    """
    limit = memory_limit(
        total_mem_limit,
        machine.cgroup_limit(),
        machine.physical_memory(),
        machine.address_space(),
        cache,
    )
    while True:
        if cache > largest_memory_cache(limit):
            raise UserError(
                f"memory_data_cache_size={show_size(cache)} leaves too little of total_mem_limit, "
                f"which is {show_size(limit)}; at most {show_size(largest_memory_cache(limit))}, "
                "or raise total_mem_limit",
                ExitStatus.USAGE,
            )
        budget = Budget(limit)
        try:
            return budget, BlockPool(budget)
        except OSError as error:
            if total_mem_limit or limit // 2 < MEMORY_FLOOR:
                smaller = (
                    f"make it smaller (this machine has {machine.physical_memory() >> 20}M), or "
                )
                raise UserError(
                    f"total_mem_limit: {show_size(limit)} for buffers cannot be reserved "
                    f"({error.strerror}); {smaller if total_mem_limit else ''}raise ulimit -v, "
                    "or vm.overcommit_ratio where vm.overcommit_memory is 2",
                    ExitStatus.USAGE if total_mem_limit else ExitStatus.FAILURE,
                ) from None
        limit //= 2


def _stage(options: MountOptions) -> Staging | None:
    """Return the directory for random writes, if the user gave one."""
    if not options.temp_dir or options.ro:
        return None
    return Staging(
        options.temp_dir,
        largest=options.random_write_max_file_size,
        free_bytes=options.temp_dir_free_bytes,
        free_percent=options.temp_dir_free_percent,
        bucket=f"{options.bucket} {options.oss_endpoint}",
    )


def _disk_cache(options: MountOptions, metrics: Metrics, budget: Budget) -> DiskCache | None:
    """Return the cache on disk, if the user gave it a place."""
    if not options.disk_data_cache_dir or not options.disk_data_cache_size:
        return None
    return DiskCache(
        options.disk_data_cache_dir,
        size=options.disk_data_cache_size,
        floor=options.disk_available_space,
        largest=options.disk_data_cache_max_file_size,
        bucket=f"{options.bucket} {options.oss_endpoint}",
        metrics=metrics,
        charge=budget.charge,
        most=budget.limit // 8,
        backlog=min(budget.limit // 4, DISK_BACKLOG),
        now=SystemClock().monotonic,
    )


def _fuse_options(options: MountOptions) -> set[str]:
    # Percent-encoded: libfuse splits at commas, and pyfuse3 takes ASCII only.
    name = f"{options.store}://{options.bucket}/{quote(options.oss_bucket_prefix)}".rstrip("/")
    chosen = {
        f"fsname={name}",
        "subtype=ossfs",
        "default_permissions",
        "nosuid",
        "nodev",
        *(["ro"] if options.ro else []),
        *options.kernel_words,
    }
    if options.allow_other:
        chosen.add("allow_other")
    return chosen
