"""What the kernel denies a child: Landlock, seccomp, capabilities, limits."""
