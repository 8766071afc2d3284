"""The SFTP server: the parties mirror their trees from it, read only and on the record.

One monitor process; it forks one sandboxed child per connection:

    client  <-- SSH -->  child  <-- ipc/messages -->  monitor  -->  transfer ledger

    server        the main process: start, reload, drain
    connection    a child process: serves one client from the first byte to the last

    monitor       the event loop; accepts, forks, records, enforces limits, reaps
    ssh           the SSH protocol in a child: transport, packets, authentication, channels
    sftp          the SFTP verbs and the check that each of them passes; the view of a party's tree
    ipc           what a child and the monitor say to each other
    access        whether a login is admitted, and whether a live session may go on
    sandbox       what the kernel denies a child: Landlock, seccomp, capabilities, limits
"""
