"""The SFTP server: the parties mirror their trees from it, read only and on the record.

One monitor process; it forks one sandboxed child per connection:

    client  <-- SSH -->  child  <-- ipc/messages -->  monitor  -->  transfer ledger

    server        the main process: start, reload, drain
    connection    a child: one client from the first byte to the last

    monitor       the event loop; accepts, forks, records, enforces limits, reaps
    ssh           the SSH protocol in a child: transport, packets, authentication, channels
    sftp          the SFTP verbs behind one gate; the view of a party's tree
    ipc           what a child and the monitor say to each other
    access        may this address, user and credential come in, and may they stay
    sandbox       what the kernel denies a child: Landlock, seccomp, capabilities, limits
"""
