"""The `ossfs emulator` command: serve a directory as OSS until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import socket
import sys
from pathlib import Path

import click

from ossfs.emulator.faults import OssFault
from ossfs.emulator.server import Emulator, Settings
from ossfs.emulator.signing import Key
from ossfs.emulator.storage import Storage
from ossfs.runtime.failure import ExitStatus, UserError

DEFAULT_KEY_ID = "ossfs-emulator"
DEFAULT_KEY_SECRET = "ossfs-emulator-secret"
DEFAULT_BUCKET = "ossfs-demo"
DEFAULT_REGION = "cn-hangzhou"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def serve(
    storage: Storage, settings: Settings, host: str, port: int, *, watch_stdin: bool = False
) -> None:
    """Serve until a signal; print one line once requests are answered."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    if watch_stdin:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    emulator = Emulator(storage, settings)
    try:
        server = await loop.create_server(emulator, host, port, backlog=1024)
    except (OSError, socket.gaierror) as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    async with server:
        address = server.sockets[0].getsockname()
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        names = ", ".join(bucket.name for bucket in storage.buckets()) or "none"
        print(f"ossfs emulator: listening on http://{shown}:{address[1]} (bucket {names})")
        sys.stdout.flush()
        # Everything alive now lives as long as the process: no collection need look at it.
        gc.collect()
        gc.freeze()
        await stop.wait()
        server.close()
        await emulator.shutdown(0.5)


def run(
    directory: Path,
    *,
    settings: Settings,
    host: str,
    port: int,
    buckets: tuple[str, ...],
    fast_etags: bool = False,
    watch_stdin: bool = False,
) -> None:
    """Open the directory, make the buckets and serve; raises UserError."""
    if not is_loopback(host):
        click.echo(
            f"ossfs emulator: warning: {host} can be reached from other machines, and the "
            "traffic is not encrypted",
            err=True,
        )
    try:
        storage = Storage(directory, fast_etags=fast_etags)
    except OSError as error:
        raise UserError(f"cannot use {directory}: {error.strerror}") from None
    with storage:
        for name in buckets:
            try:
                storage.bucket(name, create=True)
            except OssFault as fault:
                if fault.code == "BucketAlreadyExists":
                    raise UserError(f"{directory / name} is there and no bucket") from fault
                raise UserError(
                    f"{name!r} is no bucket name: 3 to 63 of a-z, 0-9 and -, not - at either end",
                    ExitStatus.USAGE,
                ) from fault
        if not storage.buckets():
            storage.bucket(DEFAULT_BUCKET, create=True)
        asyncio.run(serve(storage, settings, host, port, watch_stdin=watch_stdin))


@click.command()
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory that holds the buckets; made where missing.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="Port."
)
@click.option("--bucket", "buckets", multiple=True, help="Bucket to make; may be repeated.")
@click.option(
    "--latency-ms",
    default=0.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Milliseconds every request waits before it is handled.",
)
@click.option(
    "--bandwidth-mb",
    default=0.0,
    show_default="unlimited",
    type=click.FloatRange(min=0),
    help="MB (10^6 bytes) a second a connection may move, each way.",
)
@click.option(
    "--request-log",
    type=click.Path(dir_okay=False),
    help="File that gets a JSON line for every request.",
)
@click.option(
    "--access-key-id",
    default=DEFAULT_KEY_ID,
    show_default=True,
    envvar="OSS_ACCESS_KEY_ID",
    show_envvar=True,
    help="Key id that requests must be signed with.",
)
@click.option(
    "--access-key-secret",
    default=DEFAULT_KEY_SECRET,
    envvar="OSS_ACCESS_KEY_SECRET",
    show_envvar=True,
    help="Its secret; better given by the environment, since other users see arguments.",
)
@click.option(
    "--security-token",
    envvar="OSS_SESSION_TOKEN",
    show_envvar=True,
    help="STS token that must come with every request.",
)
@click.option(
    "--security-token-expires",
    type=float,
    help="Seconds since the epoch from which the token is refused as expired.",
)
@click.option(
    "--dated-tokens",
    is_flag=True,
    help="Take TOKEN.SECONDS for the STS token until that many seconds since the epoch.",
)
@click.option("--public", is_flag=True, help="Let anybody read, signed or not.")
@click.option(
    "--region", default=DEFAULT_REGION, show_default=True, help="Region of V4 signatures."
)
@click.option(
    "--fast-etags",
    is_flag=True,
    help="Make ETags of CRC-64 instead of MD5, which is half the work of an upload.",
)
@click.option(
    "--until-stdin-closes",
    is_flag=True,
    help="End with whoever holds the other end of standard input, even if it is killed.",
)
def emulator(
    directory: Path,
    host: str,
    port: int,
    buckets: tuple[str, ...],
    latency_ms: float,
    bandwidth_mb: float,
    request_log: str | None,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    security_token_expires: float | None,
    dated_tokens: bool,
    public: bool,
    region: str,
    fast_etags: bool,
    until_stdin_closes: bool,
) -> None:
    """Serve a directory as an OSS endpoint on this machine."""
    key = Key(
        access_key_id,
        access_key_secret,
        security_token or None,
        security_token_expires,
        public,
        dated_tokens,
    )
    settings = Settings(key, region, latency_ms / 1e3, bandwidth_mb * 1e6, request_log)
    try:
        run(
            directory,
            settings=settings,
            host=host,
            port=port,
            buckets=buckets,
            fast_etags=fast_etags,
            watch_stdin=until_stdin_closes,
        )
    except UserError as error:
        click.echo(f"ossfs emulator: {error.message}", err=True)
        raise SystemExit(int(error.status)) from None
