"""The value that a mount runs on: every option, resolved, validated and frozen."""

from __future__ import annotations

from dataclasses import dataclass


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
    negative_timeout: float = 0.0
    log_dir: str = "/tmp/ossfs"
    log_level: str = "info"
    total_mem_limit: int = 0
    """Bytes for all buffers and caches; 0: a share of the cgroup's or machine's memory."""
    prefetch_chunk_size: int = 8 * 1024**2
    prefetch_concurrency: int = 256
    prefetch_concurrency_per_file: int = 64
    read_ahead_kb: int = 8192
    """KiB of kernel readahead; 0 leaves the kernel's own and pushes pages instead."""
    upload_buffer_size: int = 8 * 1024**2
    """Effective: whole MiB."""
    upload_concurrency: int = 64
    upload_copy_concurrency: int = 64
    sync_upload: bool = True
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
    no_flock: bool = False
    """Changes nothing."""
    oss_request_timeout_ms: int = 60_000
    foreground: bool = False

    @property
    def source(self) -> str:
        """The mounted thing as the user names it: oss://BUCKET[/PREFIX], or s3://."""
        tail = f"/{self.oss_bucket_prefix}" if self.oss_bucket_prefix else ""
        return f"{self.store}://{self.bucket}{tail}"
