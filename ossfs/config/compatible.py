"""Options of other programs that change nothing here, or not yet: accepted, judged, explained.

`IGNORED` ones can be given any value that their program takes; a line says why that has no
effect. `LATER` ones are accepted while they ask for nothing and refused else. Names, defaults and
ranges are ossfs 2.0's (sources of 2.0.7 and 2.0.10) and JindoFuse's (its configuration pages).
"""

from __future__ import annotations

from functools import partial

from ossfs.config.option import Dialect, Group, Option, Stability
from ossfs.config.values import MIB, Kind

_COUNT = 2.0**40


def _row(
    stability: Stability,
    name: str,
    kind: Kind,
    default: str,
    reason: str,
    *,
    low: float = 0,
    high: float = _COUNT,
    minus_one: str = "",
    zero: str = "",
    choices: tuple[str, ...] = (),
    of: Dialect = Dialect.OSSFS2,
) -> Option:
    return Option(
        name,
        kind,
        Group.PROCESS,
        reason,
        default=default,
        low=low,
        high=high,
        minus_one=minus_one,
        zero=zero,
        choices=choices,
        of=of,
        stability=stability,
    )


_ignored = partial(_row, Stability.IGNORED)
_later = partial(_row, Stability.LATER)

_BUDGET = "all buffers share total_mem_limit, and lend each other what is free"
_TASKS = "requests are tasks of one thread; there is no pool of threads to size"
_HDFS = "it belongs to OSS-HDFS, which is not served"
_WINDOW = "reading ahead is sized by prefetch_chunk_size and prefetch_concurrency_per_file"
_CRC = "uploads are always checked by CRC-64: it costs 0.05 s of CPU a GiB"
_DISK = "threads read and write the disk cache, by ordinary calls"
_METRICS = "the metrics page is not there yet; ossfs stats tells the same"
_CORES = "threads are started as requests need them"

OF_OSSFS2: tuple[Option, ...] = (
    _ignored(
        "enable_crc64",
        Kind.FLAG,
        "true",
        _CRC,
    ),
    _ignored(
        "prefetch_chunks",
        Kind.INTEGER,
        "0",
        _BUDGET,
        minus_one="unlimited",
    ),
    _ignored("total_rw_mem_ratio", Kind.RATIO, "0.6", _BUDGET, high=1),
    _ignored("fuse_threads", Kind.INTEGER, "128", _TASKS, low=1, high=1024),
    _ignored(
        "allow_mark_dir_stale_recursively",
        Kind.FLAG,
        "false",
        "names below a renamed or removed directory never stay behind",
    ),
    _ignored(
        "seq_read_detect_count",
        Kind.INTEGER,
        "3",
        "a reader is sequential from its first read on, until it jumps",
        high=64,
    ),
    _ignored(
        "cache_type",
        Kind.CHOICE,
        "standard",
        "there is one kind",
        choices=("standard",),
    ),
    _ignored(
        "min_reserved_buffer_size_per_file",
        Kind.INTEGER,
        "1048576",
        _BUDGET,
        high=MIB,
    ),
    _ignored("oss_vcpu_count", Kind.INTEGER, "8", _CORES, low=1, high=128),
    _ignored(
        "use_list_obj_v2",
        Kind.FLAG,
        "true",
        "listings are always ListObjectsV2",
    ),
    _ignored(
        "set_mime_for_rename_dst",
        Kind.FLAG,
        "false",
        "a renamed object keeps its Content-Type",
    ),
    _ignored(
        "use_auth_cache",
        Kind.FLAG,
        "false",
        "signing keys are always kept for their day",
    ),
    _ignored(
        "enable_transmission_control",
        Kind.FLAG,
        "true",
        "what the store throttles is sent again more slowly in any case",
    ),
    _ignored(
        "tc_max_latency_threshold_us",
        Kind.INTEGER,
        "5000000",
        "there is no transmission control to tune",
    ),
    _ignored(
        "enable_admin_server",
        Kind.FLAG,
        "true",
        "ossfs stats asks the process itself",
    ),
    _ignored("enable_photon_logs", Kind.FLAG, "false", "there is no Photon library"),
    _ignored(
        "skip_trim_options",
        Kind.FLAG,
        "false",
        "values are always trimmed",
    ),
    _ignored(
        "enable_test_signal_handler",
        Kind.FLAG,
        "false",
        "there is no such handler",
    ),
    _ignored(
        "share_fd_read_buffer",
        Kind.FLAG,
        "true",
        "handles of a file always share what was read",
    ),
    _ignored(
        "random_write_chunk_size",
        Kind.SIZE,
        "2M",
        "staged files are one sparse file each",
        low=MIB,
        high=256 * MIB,
    ),
    _ignored(
        "credential_refresh_backoff",
        Kind.FLAG,
        "false",
        "a source of keys that fails is always asked again with back-off and jitter",
    ),
    _ignored(
        "default_permissions",
        Kind.FLAG,
        "true",
        "the kernel always checks owners and modes",
    ),
    _ignored("async_task_limit", Kind.INTEGER, "1000", _TASKS),
    _ignored("hdfs_set_owner_on_create", Kind.FLAG, "false", _HDFS),
    _ignored("disk_data_cache_io_engine", Kind.CHOICE, "psync", _DISK, choices=("psync", "libaio")),
    _ignored("libaio_vcpu_count", Kind.INTEGER, "4", _DISK, low=1, high=64),
    _ignored(
        "metrics_ip",
        Kind.TEXT,
        "127.0.0.1",
        _METRICS,
    ),
    _later("metrics_port", Kind.INTEGER, "0", _METRICS, high=65535),
    _later(
        "auto_create_bucket",
        Kind.FLAG,
        "false",
        "make the bucket first, in the console or with ossutil mb",
    ),
    _later(
        "agentic_bucket",
        Kind.TEXT,
        "",
        "make the bucket first, in the console or with ossutil mb",
    ),
    _later("oss_hdfs_client_options", Kind.TEXT, "", _HDFS),
)


def _key(name: str, kind: Kind, default: str, reason: str, **more: float | str) -> Option:
    """Return a row for a key of jindosdk.cfg without effect."""
    full = f"fs.oss.{name}"
    low, high = float(more.get("low", 0)), float(more.get("high", _COUNT))
    minus_one = str(more.get("minus_one", ""))
    return _ignored(
        full, kind, default, reason, low=low, high=high, minus_one=minus_one, of=Dialect.JINDOFUSE
    )


_KEPT = "names are kept as the kernel keeps them"
_ENCRYPTED = "set the bucket's default encryption instead: it holds for all writers"
_PROFILE = "reads are judged by their offsets, not by the file's format"
_ASYNC = "the kernel asks for many names at once, and each is a task"

OF_JINDOFUSE: tuple[Option, ...] = (
    *(
        _ignored(name, kind, default, reason, minus_one=minus_one, of=Dialect.JINDOFUSE)
        for name, kind, default, reason, minus_one in (
            (
                "jindo_entry_size",
                Kind.INTEGER,
                "5000",
                "names are kept as the kernel keeps them",
                "",
            ),
            (
                "jindo_attr_size",
                Kind.INTEGER,
                "50000",
                "names are kept as the kernel keeps them",
                "",
            ),
            ("jindo_attr_async_concurrency", Kind.INTEGER, "-1", _ASYNC, "none"),
            ("jindo_attr_async_queue", Kind.INTEGER, "100", _ASYNC, ""),
            ("jindo_attr_async_wait_ms", Kind.INTEGER, "1000", _ASYNC, ""),
            ("max_idle_threads", Kind.INTEGER, "10", _TASKS, ""),
            (
                "auto_unmount",
                Kind.FLAG,
                "false",
                "the mount goes with its process; a killed one's is cleaned up by the next mount",
                "",
            ),
            ("no_writeback", Kind.FLAG, "false", "the kernel's write-back cache is never used", ""),
            (
                "no_flock",
                Kind.FLAG,
                "false",
                "locks are always local to the mount: other machines do not see them",
                "",
            ),
            ("no_login", Kind.FLAG, "false", "there is no login", ""),
        )
    ),
    _later(
        "xengine",
        Kind.FLAG,
        "false",
        "JindoCache is not spoken to; mount OSS itself",
        of=Dialect.JINDOFUSE,
    ),
    _key("tmp.data.dirs", Kind.TEXT, "/tmp/", "files are staged in temp_dir, if that is given"),
    _key("tmp.data.cleaner.enable", Kind.FLAG, "true", "temporary files have no names"),
    _key("max.connections.per.host", Kind.INTEGER, "100", "there is one a request under way"),
    _key("signer.version", Kind.INTEGER, "0", "V4 with oss_region, V1 without", high=4),
    _key("async.executor.number", Kind.INTEGER, "2", _CORES),
    _key("upload.queue.size", Kind.INTEGER, "16", _BUDGET),
    _key("upload.max.pending.tasks.per.stream", Kind.INTEGER, "10", _BUDGET),
    _key("write.buffer.size", Kind.SIZE, "1048576", "writes gather in parts of upload_buffer_size"),
    _key("checksum.crc64.enable", Kind.FLAG, "true", _CRC),
    _key("checksum.md5.enable", Kind.FLAG, "false", _CRC),
    _key("array.block.enable", Kind.FLAG, "false", "parts are in memory, else on disk"),
    _key("append.threshold.size", Kind.SIZE, "0", _HDFS),
    _key("flush.merge.threshold.size", Kind.SIZE, "1048576", _HDFS),
    _key("randomwrite.sync.interval.millisecond", Kind.INTEGER, "-1", _HDFS, minus_one="never"),
    _key("read.readahead.prefetcher.version", Kind.TEXT, "default", _WINDOW),
    _key("read.readahead.prefetch.size.max", Kind.SIZE, "268435456", _WINDOW),
    _key("read.readahead.download.block.size.min", Kind.SIZE, "1048576", _WINDOW),
    _key("read.readahead.download.block.size.max", Kind.SIZE, "4194304", _WINDOW),
    _key("read.readahead.pread.enable", Kind.FLAG, "false", "a random read fetches what is asked"),
    _key("read.position.buffer.size", Kind.SIZE, "1048576", "a random read fetches what is asked"),
    _key("read.buffer.size", Kind.SIZE, "1048576", _WINDOW),
    _key("memory.io.buffer.size.max.ratio", Kind.RATIO, "0.8", _BUDGET, high=1),
    _key("memory.buffer.size.watermark", Kind.RATIO, "0.3", _BUDGET, high=1),
    _key("read.profile.enable", Kind.FLAG, "true", _PROFILE),
    _key("read.profile.columnar.position.buffer.size", Kind.SIZE, "16777216", _PROFILE),
    _key("read.profile.columnar.readahead.prefetch.size.max", Kind.SIZE, "67108864", _PROFILE),
    _key("read.profile.columnar.readahead.download.block.size.min", Kind.SIZE, "1048576", _PROFILE),
    _key("read.profile.columnar.readahead.download.block.size.max", Kind.SIZE, "1048576", _PROFILE),
    _key("vectored.read.min.seek.size", Kind.SIZE, "16384", "the kernel asks range by range"),
    _key("vectored.read.max.merged.size", Kind.SIZE, "2097152", "the kernel merges reads itself"),
    _key("list.fallback.iterative", Kind.FLAG, "false", "directories are listed one by one"),
    _key("list.iterative.first", Kind.FLAG, "false", "directories are listed one by one"),
    *(
        _later(f"fs.oss.{name}", Kind.TEXT, "", reason, of=Dialect.JINDOFUSE)
        for name, reason in (
            ("server-side-encryption", _ENCRYPTED),
            ("server-side-encryption-key-id", _ENCRYPTED),
            ("server-side-data-encryption", _ENCRYPTED),
            ("provider.endpoint", "write ram_role=NAME, the role of this instance"),
            ("provider.format", "write credentials_file or credential_process"),
        )
    ),
)

_STAGED = "nothing is staged on disk but for random writes, in temp_dir"

OF_OSSFS1: tuple[Option, ...] = tuple(
    _ignored(name, kind, default, reason, of=Dialect.OSSFS1)
    for name, kind, default, reason in (
        ("use_cache", Kind.TEXT, "", _STAGED),
        ("del_cache", Kind.FLAG, "false", _STAGED),
        ("tmpdir", Kind.TEXT, "/tmp", _STAGED),
        ("max_stat_cache_size", Kind.INTEGER, "100000", _KEPT),
        ("sigv4", Kind.FLAG, "false", "V4 with oss_region, V1 without"),
        ("sigv1", Kind.FLAG, "false", "V4 with oss_region, V1 without"),
        ("dbglevel", Kind.TEXT, "crit", "log_level=debug logs more"),
        ("readdir_optimize", Kind.FLAG, "false", "a listing never costs a request an entry"),
        ("direct_read", Kind.FLAG, "false", "reading never goes over a local disk"),
    )
)

FOREIGN_KEYS = ("fs.jdo.", "fs.jindofsx.", "fs.jindocache.", "logger.", "fs.jindo.")
"""What keys of jindosdk.cfg begin with that are not about OSS: accepted, and a line says so."""
