"""Values worked out from others: memory limit, effective modes, endpoint of a region.

Apart from `validate`, which only refuses: here nothing is refused any more. Pure functions.
"""

from __future__ import annotations

from dataclasses import replace

from ossfs.config.options import MountOptions
from ossfs.config.values import GIB, MIB

MEMORY_FLOOR = 128 * MIB
MEMORY_CAP = 8 * GIB
"""What ossfs 2.0's manual names as the most it uses with its defaults."""


def memory_limit(
    total_mem_limit: int,
    cgroup_limit: int | None,
    ram: int,
    address_space: int | None = None,
    cache: int = 0,
) -> int:
    """Return the bytes all buffers and caches may take together.

    An explicit limit wins. Else half of what the process may use at all: the cgroup's limit
    where there is one (it may be above the RAM, then the RAM counts); of a limited address space
    a quarter, since it also holds code and the stacks of all threads. Never under the floor that
    keeps one reader going, never above the cap. What the user gives to memory_data_cache_size
    (`cache`) comes on top, as far as three quarters of what there is.
    """
    if total_mem_limit:
        return total_mem_limit
    available = ram if cgroup_limit is None else min(cgroup_limit, ram)
    if address_space is not None:
        available = min(available, address_space // 2)
    usual = min(max(available // 2, MEMORY_FLOOR), MEMORY_CAP)
    return max(usual, min(usual + cache, available * 3 // 4))


def largest_memory_cache(limit: int) -> int:
    """Return how much of the memory limit memory_data_cache_size may be.

    A quarter, and what one reader and one writer need, stays for everything else.
    """
    return max(0, limit - max(limit // 4, 64 * MIB))


def region_endpoint(region: str, store: str) -> str:
    """Return the public endpoint of a region."""
    return (
        f"https://s3.{region}.amazonaws.com"
        if store == "s3"
        else f"https://oss-{region}.aliyuncs.com"
    )


def upload_concurrency(store: str) -> int:
    """Return how many parts may be uploaded at once where nobody has said so.

    ossfs 2.0's 64; SeaweedFS on the same two cores takes 1.3 times as long with 64 as with 16.
    """
    return 16 if store == "s3" else 64


def path_style(store: str, endpoint: str) -> bool:
    """Say whether a bucket belongs into the path where nobody has said so.

    S3-compatible servers take it there, whatever their name; the two clouds want it in the host's
    name (OSS's S3-compatible face takes no other, AWS has announced the end of others).
    """
    host = endpoint.rpartition("/")[2].partition(":")[0]
    return store == "s3" and not host.endswith((".amazonaws.com", ".aliyuncs.com"))


def jindo_attr_timeout(attr_timeout: float) -> float:
    """Return how long JindoFuse's own cache believes attributes where nobody has said so.

    Its manual's 60 s, but no longer than the kernel's: recipes that set attr_timeout alone promise
    that changes are seen within that.
    """
    return min(60.0, attr_timeout) if attr_timeout >= 0 else 60.0


def pod_memory(limit: int) -> int:
    """Return what buffers may take of a pod's memory limit: half, as of a cgroup's."""
    return max(limit // 2, MEMORY_FLOOR)


def log_directory(user: int) -> str:
    """Return the default log directory; one a user, because its mode keeps others out."""
    return "/tmp/ossfs" if user == 0 else f"/tmp/ossfs-{user}"


def effective(options: MountOptions) -> MountOptions:
    """Apply what one option does to another: umask to modes, limits to each other."""
    total = 0 if options.pread else options.prefetch_concurrency
    per_file = options.prefetch_concurrency_per_file
    if total:
        per_file = min(per_file, total)
    return replace(
        options,
        file_mode=options.file_mode & ~options.umask,
        dir_mode=options.dir_mode & ~options.umask,
        prefetch_chunk_size=_whole_mebibytes(options.prefetch_chunk_size),
        prefetch_concurrency=total,
        prefetch_concurrency_per_file=per_file,
        sync_upload=options.sync_upload or options.close_to_open,
        upload_buffer_size=_whole_mebibytes(options.upload_buffer_size),
        enable_symlink=options.enable_symlink and not options.no_symlink,
        enable_xattr=options.enable_xattr and not options.no_xattr,
    )


def _whole_mebibytes(size: int) -> int:
    return -(-size // MIB) * MIB
