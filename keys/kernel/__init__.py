"""Linux system calls that Python's standard library does not offer: prctl, Landlock, seccomp.

They are here, and not in one of the sandboxes, because `publisher` and `sftpd` never import
each other and `keys` is the lowest package that both may import. This package does not decide which
files and system calls a process may use: sftpd/sandbox, portal/sandbox and
publisher/reading/sandbox do.
"""
