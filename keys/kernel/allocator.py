"""Settings of the C library's memory allocator, for a process that holds large blocks (mallopt(3)).

By default glibc raises the size from which it asks the kernel for a block of its own, up to 32 MiB,
as large blocks are freed; later ones then come from a heap that never shrinks. And each thread may
get a heap. So a daemon that replaces its columns every minute would keep far more than it uses.

In a heap, where other blocks were before, a block costs its whole size even if little of it is
used. uvloop has one of 256 KiB for what a connection with TLS receives.
"""

from keys.kernel.libc import libc

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_LARGE = 1 << 16  # bytes
_HEAPS = 2


def return_large_blocks() -> None:
    """Give blocks of 64 KiB and more back to the kernel when they are freed; keep two heaps."""
    if hasattr(libc, "mallopt"):  # musl has no such settings
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, _HEAPS)


def return_free_memory() -> None:
    """Give back the pages of the heap in which nothing is left (malloc_trim(3)).

    After a busy moment, free blocks below the last one in use stay with the process otherwise.
    """
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
