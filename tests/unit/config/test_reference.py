"""Every option that ossfs 2.0 and JindoFuse document: accepted with their default and range."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from ossfs.config.arguments import scan
from ossfs.config.option import Dialect
from ossfs.config.table import BY_NAME
from ossfs.config.validate import Host, Resolved, resolve
from ossfs.runtime.failure import ExitStatus, UserError

HOST = Host(uid=0, gid=0, user_allow_other=False)


class Documented(NamedTuple):
    """One option as its program documents it."""

    default: str
    good: str = ""
    """Values at the ends of the range, with blanks between them."""
    bad: str = ""


FLAG = "true false"

OSSFS2 = {
    # the manual's table
    "oss_endpoint": Documented("", "http://oss-cn-hangzhou.aliyuncs.com", "ftp://x"),
    "oss_bucket": Documented("", "bucket", "Bucket_"),
    "oss_access_key_id": Documented("", "id"),
    "oss_access_key_secret": Documented("", "secret"),
    "ram_role": Documented("", "role http://100.100.100.200/x", "two/words"),
    "credential_process": Documented("", "/bin/helper", "helper /bin/x$HOME"),
    "oss_bucket_prefix": Documented("", "a/b /a/", "a//b"),
    "oss_region": Documented("", "cn-hangzhou", "CN_hangzhou"),
    "attr_timeout": Documented("60", "0 7200", "-1 x"),
    "negative_timeout": Documented("0", "0 7200", "-1"),
    "readdirplus": Documented("true", FLAG, "maybe"),
    "oss_negative_cache_timeout": Documented("0", "0 30", "-1"),
    "oss_negative_cache_size": Documented("10000", "1 100000", "-1 0"),
    "close_to_open": Documented("false", FLAG, "2"),
    "max_inode_cache_count": Documented("0", "0 100000", "-1"),
    "memory_data_cache_size": Documented("0", "0 10G", "x"),
    "upload_buffer_size": Documented("8388608", "1048576 5368709120 104857600", "1048575 6G"),
    "upload_concurrency": Documented("64", "1 1024", "0 1025"),
    "upload_copy_concurrency": Documented("64", "1 1024", "0 1025"),
    "sync_upload": Documented("true", FLAG, "x"),
    "enable_crc64": Documented("true", FLAG, "x"),
    "prefetch_chunk_size": Documented("8388608", "1M 128M", "1023K 129M"),
    "prefetch_concurrency": Documented("256", "0 4096", "-1 4097"),
    "prefetch_concurrency_per_file": Documented("64", "1 4096", "0 4097"),
    "prefetch_chunks": Documented("0", "-1 0 768", "-2"),
    "total_mem_limit": Documented("0", "256M 8GiB", "1M"),
    "rename_dir_limit": Documented("2000000", "1 2000000", "-1"),
    "enable_appendable_object": Documented("false", FLAG, "x"),
    "appendable_object_autoswitch_threshold": Documented("0", "1M 5G", "6G"),
    "oss_request_timeout_ms": Documented("60000", "1000 900000", "999 900001"),
    "bind_ips": Documented("", "127.0.0.1,::1", "localhost"),
    "uid": Documented("", "0 1000", "-1 4294967296"),
    "gid": Documented("", "0 1000", "-1 4294967296"),
    "file_mode": Documented("0777", "0644 0000", "0888 10000"),
    "dir_mode": Documented("0777", "0755", "01777"),
    "allow_other": Documented("true", FLAG, "x"),
    "ro": Documented("false", FLAG, "x"),
    "f": Documented("false", FLAG, "x"),
    "d": Documented("false", FLAG, "x"),
    "log_level": Documented("info", "info debug", "trace"),
    "log_dir": Documented("/tmp/ossfs2", "/var/log/ossfs syslog"),
    "log_file_max_size": Documented("67108864", "1M", "x"),
    "log_file_max_count": Documented("8", "1 100", "0"),
    # in its sources alone
    "nonempty": Documented("false", FLAG, "x"),
    "total_rw_mem_ratio": Documented("0.6", "0.1 0.9", "0 1 x"),
    "fuse_threads": Documented("128", "1 1024", "0 1025"),
    "ignore_fsync": Documented("true", FLAG, "x"),
    "allow_rename_dir": Documented("true", FLAG, "x"),
    "rename_dir_concurrency": Documented("128", "1 1024", "0 1025"),
    "allow_mark_dir_stale_recursively": Documented("false", FLAG, "x"),
    "seq_read_detect_count": Documented("3", "0 64", "65"),
    "enable_symlink": Documented("false", FLAG, "x"),
    "fuse_attr_timeout": Documented("-1", "-1 0 60", "-2"),
    "fuse_entry_timeout": Documented("-1", "-1 0 60", "-2"),
    "kernel_readdir_cache_timeout": Documented("0", "0 60", "-1"),
    "inode_cache_eviction_threshold": Documented("0", "0 300000", "-1"),
    "inode_cache_eviction_interval_ms": Documented("30000", "1000 60000", "-1"),
    "cache_type": Documented("standard", "standard", "other"),
    "min_reserved_buffer_size_per_file": Documented("1048576", "0 1048576", "-1"),
    "oss_vcpu_count": Documented("8", "1 128", "0 129"),
    "use_list_obj_v2": Documented("true", FLAG, "x"),
    "max_list_ret_count": Documented("100", "100 1000", "99 1001"),
    "set_mime_for_rename_dst": Documented("false", FLAG, "x"),
    "use_auth_cache": Documented("false", FLAG, "x"),
    "enable_transmission_control": Documented("true", FLAG, "x"),
    "tc_max_latency_threshold_us": Documented("5000000", "1", "-1"),
    "http_proxy": Documented("", "http://proxy:3128 http://u:p@proxy", "https://proxy"),
    "metrics_port": Documented("0", "0", "65536"),
    "metrics_ip": Documented("127.0.0.1", "0.0.0.0"),
    "enable_admin_server": Documented("true", FLAG, "x"),
    "enable_photon_logs": Documented("false", FLAG, "x"),
    "skip_trim_options": Documented("false", FLAG, "x"),
    "enable_test_signal_handler": Documented("false", FLAG, "x"),
    # after 2.0.7
    "disk_data_cache_dir": Documented("", "/var/cache/ossfs"),
    "disk_data_cache_size": Documented("0", "0 1G 100G", "1M"),
    "disk_data_cache_io_engine": Documented("psync", "psync libaio", "uring"),
    "disk_available_space": Documented("1G", "1G 0", "x"),
    "disk_data_cache_max_file_size": Documented("-1", "-1 1G", "-2"),
    "libaio_vcpu_count": Documented("4", "1 64", "0 65"),
    "share_fd_read_buffer": Documented("true", FLAG, "x"),
    "fuse_device_fd": Documented("-1", "-1 3", "-2 0"),
    "temp_dir": Documented("", "/tmp/staged"),
    "random_write_chunk_size": Documented("2M", "1M 256M", "257M"),
    "random_write_max_file_size": Documented("100G", "1G 48T", "60T"),
    "temp_dir_free_bytes": Documented("1G", "64M", "63M"),
    "temp_dir_free_percent": Documented("0", "0 99", "100"),
    "auto_create_bucket": Documented("false", "false", "x"),
    "agentic_bucket": Documented("", ""),
    "credential_refresh_interval": Documented("0", "0 1 86400", "86401"),
    "credential_refresh_backoff": Documented("false", FLAG, "x"),
    "path_style": Documented("false", FLAG, "x"),
    "enable_ipv6": Documented("true", FLAG, "x"),
    "oss_hdfs_client_options": Documented("", ""),
    "enable_xattr": Documented("false", FLAG, "x"),
    "default_permissions": Documented("true", FLAG, "x"),
    "hdfs_set_owner_on_create": Documented("false", FLAG, "x"),
    "async_task_limit": Documented("1000", "1", "-1"),
}

PINNED = {
    "ignore_fsync": "fsync() means the bytes are in the bucket; ossfs 2.0's does nothing",
    "prefetch_chunks": "memory is bounded by total_mem_limit",
    "max_list_ret_count": "1,000 names a request, as many as OSS gives, instead of 100",
    "log_dir": "a fixed name under /tmp that root writes to is a trap of symbolic links; ours is "
    "checked, and a user's own",
}
"""What differs from ossfs 2.0 in its default, and why."""

COMPANIONS = {"appendable_object_autoswitch_threshold": "enable_appendable_object"}

JINDOFUSE = {
    "attr_timeout": Documented("60", "0 7200", "x"),
    "entry_timeout": Documented("60", "0 7200", "x"),
    "negative_timeout": Documented("60", "0 7200", "x"),
    "jindo_attr_timeout": Documented("60", "0 7200", "x"),
    "jindo_entry_timeout": Documented("60", "0 7200", "x"),
    "jindo_attr_size": Documented("50000", "1", "x"),
    "jindo_entry_size": Documented("5000", "1", "x"),
    "jindo_attr_async_concurrency": Documented("-1", "-1 8", "x"),
    "jindo_attr_async_queue": Documented("100", "1", "x"),
    "jindo_attr_async_wait_ms": Documented("1000", "1", "x"),
    "max_idle_threads": Documented("10", "1", "x"),
    "auto_unmount": Documented("false", FLAG, "x"),
    "ro": Documented("false", FLAG, "x"),
    "ro_mount": Documented("false", FLAG, "x"),
    "direct_io": Documented("false", FLAG, "x"),
    "kernel_cache": Documented("false", FLAG, "x"),
    "auto_cache": Documented("true", FLAG, "x"),
    "pread": Documented("false", FLAG, "x"),
    "xengine": Documented("false", "false", "x"),
    "no_symlink": Documented("false", FLAG, "x"),
    "no_writeback": Documented("false", FLAG, "x"),
    "no_flock": Documented("false", FLAG, "x"),
    "no_xattr": Documented("false", FLAG, "x"),
    "no_login": Documented("false", FLAG, "x"),
    "metrics_ip": Documented("127.0.0.1", "0.0.0.0"),
    "metrics_port": Documented("0", "0", "x"),
    "fs.oss.tmp.data.dirs": Documented("/tmp/", "/a,/b"),
    "fs.oss.tmp.data.cleaner.enable": Documented("true", FLAG, "x"),
    "fs.oss.retry.count": Documented("5", "0 100", "x"),
    "fs.oss.securityToken": Documented("", "token"),
    "fs.oss.retry.interval.millisecond": Documented("500", "1 60000", "x"),
    "fs.oss.timeout.millisecond": Documented("30000", "1000", "x"),
    "fs.oss.connection.timeout.millisecond": Documented("3000", "100", "x"),
    "fs.oss.io.timeout.millisecond": Documented("90000", "100", "x"),
    "fs.oss.max.connections.per.host": Documented("100", "1", "x"),
    "fs.oss.signer.version": Documented("0", "0 1 4", "5"),
    "fs.oss.async.executor.number": Documented("2", "1", "x"),
    "fs.oss.upload.thread.concurrency": Documented("16", "1", "x"),
    "fs.oss.upload.async.concurrency": Documented("16", "1", "x"),
    "fs.oss.upload.queue.size": Documented("16", "1", "x"),
    "fs.oss.upload.max.pending.tasks.per.stream": Documented("10", "1", "x"),
    "fs.oss.download.thread.concurrency": Documented("16", "1", "x"),
    "fs.oss.download.async.concurrency": Documented("16", "1", "x"),
    "fs.oss.write.buffer.size": Documented("1048576", "262144", "x"),
    "fs.oss.flush.interval.millisecond": Documented("-1", "-1 1000 10000", "x"),
    "fs.oss.blocklet.size.mb": Documented("8", "1 100", "x"),
    "fs.oss.checksum.crc64.enable": Documented("true", FLAG, "x"),
    "fs.oss.checksum.md5.enable": Documented("false", FLAG, "x"),
    "fs.oss.array.block.enable": Documented("false", FLAG, "x"),
    "fs.oss.append.threshold.size": Documented("0", "1", "x"),
    "fs.oss.flush.merge.threshold.size": Documented("1048576", "1", "x"),
    "fs.oss.append.enable": Documented("false", FLAG, "x"),
    "fs.oss.randomwrite.sync.interval.millisecond": Documented("-1", "10000", "x"),
    "fs.oss.read.readahead.prefetcher.version": Documented("default", "legacy"),
    "fs.oss.read.readahead.prefetch.size.max": Documented("268435456", "1", "x"),
    "fs.oss.read.readahead.download.block.size.min": Documented("1048576", "1", "x"),
    "fs.oss.read.readahead.download.block.size.max": Documented("4194304", "1", "x"),
    "fs.oss.read.readahead.pread.enable": Documented("false", FLAG, "x"),
    "fs.oss.read.position.buffer.size": Documented("1048576", "1", "x"),
    "fs.oss.read.readahead.max.buffer.count": Documented("48", "1", "x"),
    "fs.oss.read.buffer.size": Documented("1048576", "1", "x"),
    "fs.oss.read.readahead.buffer.count": Documented("4", "64", "x"),
    "fs.oss.read.readahead.buffer.size": Documented("1048576", "4194304", "x"),
    "fs.oss.memory.pool.size.max.mb": Documented("6124", "128", "x"),
    "fs.oss.memory.buffer.size.max.mb": Documented("6124", "128", "x"),
    "fs.oss.memory.io.buffer.size.max.ratio": Documented("0.8", "0.5", "x"),
    "fs.oss.memory.buffer.size.watermark": Documented("0.3", "0.5", "x"),
    "fs.oss.read.profile.enable": Documented("true", FLAG, "x"),
    "fs.oss.vectored.read.min.seek.size": Documented("16384", "1", "x"),
    "fs.oss.vectored.read.max.merged.size": Documented("2097152", "1", "x"),
    "fs.oss.list.fallback.iterative": Documented("false", FLAG, "x"),
    "fs.oss.list.iterative.first": Documented("false", FLAG, "x"),
    "fs.oss.server-side-encryption": Documented("", ""),
}

UNSERVED = {
    "metrics_port": "9090",
    "auto_create_bucket": "true",
    "agentic_bucket": "x",
    "oss_hdfs_client_options": "a=b",
    "xengine": "true",
    "fs.oss.server-side-encryption": "AES256",
    "fs.oss.server-side-encryption-key-id": "x",
    "fs.oss.server-side-data-encryption": "SM4",
    "fs.oss.provider.endpoint": "ECS_ROLE",
    "fs.oss.provider.format": "JSON",
}
"""Refused with this value, which their programs take: to ignore it would be missed."""


def resolved(name: str, value: str, dialect: Dialect) -> Resolved:
    source = ["oss://bucket"] if name != "oss_bucket" else []
    words = [*source, "/mnt", f"--{name}={value}"]
    if name != "oss_endpoint":
        words.append("--oss_endpoint=http://127.0.0.1:9")
    if name in COMPANIONS:
        words.append(f"--{COMPANIONS[name]}")
    return resolve(scan(words), {}, HOST)


def walked(table: dict[str, Documented], dialect: Dialect) -> list[tuple[str, Documented, Dialect]]:
    return [(name, documented, dialect) for name, documented in table.items()]


WALK = [*walked(OSSFS2, Dialect.OSSFS2), *walked(JINDOFUSE, Dialect.JINDOFUSE)]
NAMES = [f"{dialect.value}-{name}" for name, _, dialect in WALK]


@pytest.mark.parametrize(("name", "documented", "dialect"), WALK, ids=NAMES)
def test_an_option_is_accepted_with_its_default_and_range(
    name: str, documented: Documented, dialect: Dialect
) -> None:
    for value in (documented.default, *documented.good.split()):
        if value:
            resolved(name, value, dialect)


@pytest.mark.parametrize(("name", "documented", "dialect"), WALK, ids=NAMES)
def test_what_is_out_of_its_range_is_refused_with_what_is_legal(
    name: str, documented: Documented, dialect: Dialect
) -> None:
    for value in documented.bad.split():
        with pytest.raises(UserError) as refused:
            resolved(name, value, dialect)
        assert refused.value.status is ExitStatus.USAGE
        assert "\n" not in refused.value.message


DEFAULTS = [
    name
    for name, documented in OSSFS2.items()
    # Not what nothing goes by, nor what is worked out: upload_concurrency, path_style.
    if documented.default and BY_NAME[name].effective and BY_NAME[name].default
]


@pytest.mark.parametrize("name", [*DEFAULTS, "prefetch_chunks"])
def test_a_default_is_ossfs_2s_but_for_the_pinned_ones(name: str) -> None:
    option = BY_NAME[name]
    theirs = option.read(OSSFS2[name].default)
    same = option.effective and theirs == option.read(option.default)
    assert same is (name not in PINNED)


def test_the_pinned_ones_have_reasons_and_differ() -> None:
    assert set(PINNED) <= set(OSSFS2)
    assert BY_NAME["ignore_fsync"].read("false") == BY_NAME["ignore_fsync"].read(
        BY_NAME["ignore_fsync"].default
    )


@pytest.mark.parametrize("name", UNSERVED)
def test_what_is_not_served_is_refused_with_its_reason(name: str) -> None:
    with pytest.raises(UserError) as refused:
        resolved(name, UNSERVED[name], Dialect.OSSFS)
    assert refused.value.status is ExitStatus.USAGE
    assert refused.value.message == f"{name} is not served: {BY_NAME[name].help}"


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("enable_crc64=false", "enable_crc64 has no effect: uploads are always checked"),
        ("prefetch_chunks=12", "prefetch_chunks has no effect: all buffers share"),
        ("fs.oss.checksum.md5.enable=true", "has no effect"),
        ("no_writeback=true", "no_writeback has no effect: the kernel's write-back cache"),
        ("no_flock=true", "no_flock has no effect: locks are always local"),
        ("default_permissions=false", "default_permissions has no effect: the kernel always"),
        ("fs.oss.read.readahead.pread.enable=true", "a random read fetches what is asked"),
        ("fs.jdo.metrics.level=1", "has no effect: it is not about OSS"),
        ("logger.level=2", "has no effect: it is not about OSS"),
    ],
)
def test_what_changes_nothing_says_why(option: str, reason: str) -> None:
    name, _, value = option.partition("=")
    (note,) = resolved(name, value, Dialect.OSSFS).notes
    assert reason in note


def test_a_default_given_needs_no_word() -> None:
    assert not resolved("enable_crc64", "true", Dialect.OSSFS).notes


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("close_to_opn", "close_to_open"),
        ("fs.oss.upload.thread.concurency", "fs.oss.upload.thread.concurrency"),
        ("entry_timeot", "entry_timeout"),
        ("inode_cache_evict_threshold", "inode_cache_eviction_threshold"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {meant}"):
        resolved(typo, "1", Dialect.OSSFS)
