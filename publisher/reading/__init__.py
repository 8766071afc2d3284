"""Reads karekods from the bytes of a page, in sandboxed worker processes.

In the publisher, `pool` gives the bytes of each file to a `worker_client`, which starts a process
and speaks `protocol` with it. In that process, `worker` restricts itself (`sandbox`), decodes the
file (`formats`) and reads the codes (`codes`).
"""
