"""What the rooms of a mount are told of its options, and which of it may change while mounted."""

from __future__ import annotations

from dataclasses import fields

from ossfs.config.options import MountOptions
from ossfs.fuse.operations import Presentation
from ossfs.reading.reader import ReadingLimits
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy

LIVE = frozenset(
    {
        *("attr_timeout", "negative_timeout", "fuse_attr_timeout", "fuse_entry_timeout"),
        *("close_to_open", "auto_cache", "kernel_cache", "max_list_ret_count"),
        *("kernel_readdir_cache_timeout", "max_inode_cache_count"),
        *("inode_cache_eviction_threshold", "inode_cache_eviction_interval_ms"),
        *("sync_upload", "ignore_fsync", "allow_rename_dir", "rename_dir_limit"),
        *("rename_dir_concurrency", "pread", "prefetch_concurrency"),
        *("prefetch_concurrency_per_file", "oss_request_timeout_ms", "retry_count"),
        *("retry_interval_ms", "log_level"),
    }
)
"""Options that SIGHUP changes."""


def policy_of(options: MountOptions, *, list_nodes: bool) -> Policy:
    """Return what is believed, and what is shown."""
    remembered = options.negative_timeout > 0 or options.oss_negative_cache_timeout > 0
    return Policy(
        attr_timeout=options.attr_timeout,
        links=options.enable_symlink,
        preserve_mtime=options.preserve_mtime,
        kernel_absence=remembered,
        absence_timeout=options.oss_negative_cache_timeout,
        absences=options.oss_negative_cache_size,
        close_to_open=options.close_to_open,
        list_nodes=list_nodes,
        list_size=options.max_list_ret_count,
        listing_life=options.kernel_readdir_cache_timeout,
        kept_inodes=options.max_inode_cache_count,
    )


def writes_of(options: MountOptions) -> WritePolicy:
    """Return what the user chose about writing."""
    return WritePolicy(
        sync_upload=options.sync_upload,
        ignore_fsync=options.ignore_fsync,
        preserve_mtime=options.preserve_mtime,
        rename_directories=options.allow_rename_dir,
        rename_limit=options.rename_dir_limit,
        rename_concurrency=options.rename_dir_concurrency,
    )


def presentation_of(options: MountOptions, *, list_nodes: bool) -> Presentation:
    """Return how files look to the kernel."""
    return Presentation(
        uid=options.uid,
        gid=options.gid,
        file_mode=options.file_mode,
        dir_mode=options.dir_mode,
        negative_timeout=options.negative_timeout,
        read_only=options.ro,
        links=options.enable_symlink,
        xattrs=options.enable_xattr,
        entry_timeout=options.fuse_entry_timeout,
        attr_timeout=options.fuse_attr_timeout,
        list_nodes=list_nodes,
        keep_cache=options.auto_cache or options.kernel_cache,
        direct_io=options.direct_io,
    )


def limits_of(options: MountOptions) -> ReadingLimits:
    """Return how far is read ahead."""
    return ReadingLimits(
        chunk=options.prefetch_chunk_size,
        per_file=options.prefetch_concurrency_per_file,
        total=options.prefetch_concurrency,
    )


def differing(old: MountOptions, new: MountOptions) -> list[str]:
    """Return the names of the fields that are not the same."""
    return [
        field.name
        for field in fields(MountOptions)
        if getattr(old, field.name) != getattr(new, field.name)
    ]
