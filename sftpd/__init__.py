"""Reads the trees: the SFTP server that the parties mirror from.

One parent, one child a connection, and a socket pair between the two:

    the parent   server      the loop put together: start, reload, drain
                 loop        descriptors, and things that fall due (signals: what they ask)
                 entrance    accept, and whose connection is closed unheard
                 lobby       connections that a balancer passes on (proxy: the header)
                 children    fork, hear, end, bury (shares: fair parts of the processor)
                 book        what they tell -> records (hush: of refusals not too many)
                 journal     records -> the transfer ledger, one by one or a turn's together
                 standing    may a live session go on? (reload: SIGHUP)
                 passwords   a party's own password in place of an operator's
                 bulletin    what is in force, for who asks whether a change was taken up
                 penalties   who fails often is slowed (rate: buckets, and bandwidth)
                 metrics     for Prometheus (scrape: its port)

    between      messages    what a child tells and asks (slate: what it has yet to tell)
                 slots       passwords hashed at once

    a child      connection  login, cage, channels, put together
                 transport   paramiko in one thread; direct: without its channels' threads
                 wire        the socket, and what a client may take before its login
                 packets     our own packet layer (ciphers: AES-GCM, AES-CTR with MAC)
                 userauth    SSH's authentication; login: the decision; hostkeys: the next ones
                 cage        what the kernel enforces from the login on (seccomp: system calls)
                 channels    what may be opened; carriers: the data of SFTP channels
                 commands    what is answered over exec: digests, as rclone asks for them
                 session     the verbs, a table and one gate (sftp: wire forms and codes)
                 checksums   digests, as WinSCP asks for them
                 view        (party tree, path) -> open file | NotFound
                 progress    how much of a file was sent
                 recorder    tells the parent, and asks it
"""
