"""Restricts a child by means of the kernel: Landlock, seccomp, capabilities, limits."""
