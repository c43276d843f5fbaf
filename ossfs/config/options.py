"""The value that a mount runs on: every option, resolved, validated and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Effective options of one mount; names are ossfs 2.0's, units are in the table."""

    bucket: str
    mountpoint: str
    """Absolute path; empty for a command that mounts nothing."""
    oss_bucket_prefix: str = ""
    """Without leading or trailing slash; empty mounts the whole bucket."""
    store: str = "oss"
    """Protocol: oss or s3."""
    oss_endpoint: str = ""
    oss_region: str = ""
    """Set: signature V4. Empty: V1, or on S3 whatever region the server names."""
    path_style: bool = False
    uid: int = 0
    gid: int = 0
    file_mode: int = 0o777
    """Effective: the umask is taken off already."""
    dir_mode: int = 0o777
    """Effective: the umask is taken off already."""
    umask: int = 0
    allow_other: bool = True
    ro: bool = False
    nonempty: bool = False
    kernel_words: tuple[str, ...] = ()
    """mount(8)'s words for the kernel beyond the usual ones: noexec, noatime, sync, dirsync."""
    attr_timeout: float = 60.0
    fuse_attr_timeout: float = -1.0
    """-1: what is left of attr_timeout."""
    fuse_entry_timeout: float = -1.0
    """-1: what is left of attr_timeout."""
    negative_timeout: float = 0.0
    oss_negative_cache_timeout: float = 0.0
    oss_negative_cache_size: int = 10_000
    close_to_open: bool = False
    readdirplus: bool = True
    inode_cache_eviction_threshold: int = 0
    """0: never."""
    inode_cache_eviction_interval_ms: int = 30_000
    max_inode_cache_count: int = 0
    kernel_readdir_cache_timeout: float = 0.0
    auto_cache: bool = True
    kernel_cache: bool = False
    max_list_ret_count: int = 1000
    log_dir: str = "/tmp/ossfs"
    """Absolute path, or syslog."""
    log_level: str = "info"
    log_file_max_size: int = 64 * 1024**2
    log_file_max_count: int = 8
    total_mem_limit: int = 0
    """Bytes for all buffers and caches; 0: a share of the cgroup's or machine's memory."""
    prefetch_chunk_size: int = 8 * 1024**2
    prefetch_concurrency: int = 256
    """Effective: 0 with pread."""
    prefetch_concurrency_per_file: int = 64
    pread: bool = False
    direct_io: bool = False
    read_ahead_kb: int = 8192
    """KiB of kernel readahead; 0 leaves the kernel's own and pushes pages instead."""
    memory_data_cache_size: int = 0
    """Bytes; 0: off."""
    disk_data_cache_dir: str = ""
    """Absolute path; empty, or size 0: no disk cache."""
    disk_data_cache_size: int = 0
    disk_available_space: int = 1024**3
    disk_data_cache_max_file_size: int = -1
    """Bytes; -1: no limit."""
    upload_buffer_size: int = 8 * 1024**2
    """Effective: whole MiB."""
    upload_concurrency: int = 64
    upload_copy_concurrency: int = 64
    sync_upload: bool = True
    """Effective: true under close_to_open."""
    ignore_fsync: bool = False
    enable_appendable_object: bool = False
    appendable_object_autoswitch_threshold: int = 0
    """Bytes; 0: no object changes its kind."""
    flush_interval_ms: int = 0
    """0: off."""
    temp_dir: str = ""
    """Absolute path; empty: no staged mode."""
    random_write_max_file_size: int = 100 * 1024**3
    temp_dir_free_bytes: int = 1024**3
    temp_dir_free_percent: int = 0
    allow_rename_dir: bool = True
    rename_dir_limit: int = 2_000_000
    rename_dir_concurrency: int = 128
    enable_symlink: bool = False
    """Effective: false where no_symlink is given."""
    preserve_mtime: bool = False
    enable_xattr: bool = False
    """Effective: false where no_xattr is given."""
    no_symlink: bool = False
    no_xattr: bool = False
    oss_request_timeout_ms: int = 60_000
    connect_timeout_ms: int = 3_000
    io_timeout_ms: int = 20_000
    retry_count: int = 4
    retry_interval_ms: int = 200
    http_proxy: str = field(default="", repr=False)
    """http://[USER:PASSWORD@]HOST:PORT."""
    bind_ips: str = ""
    """Addresses with commas between them."""
    enable_ipv6: bool = True
    credential_refresh_interval: float = 0.0
    """Seconds; 0: when keys are about to expire."""
    anonymous: bool = False
    fuse_device_fd: int = -1
    """-1: the mount is ours to make."""
    foreground: bool = False

    @property
    def source(self) -> str:
        """The mounted thing as the user names it: oss://BUCKET[/PREFIX], or s3://."""
        tail = f"/{self.oss_bucket_prefix}" if self.oss_bucket_prefix else ""
        return f"{self.store}://{self.bucket}{tail}"
