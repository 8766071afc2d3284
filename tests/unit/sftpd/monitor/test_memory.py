import mmap
import os
import signal

from sftpd.monitor.memory import anonymous_bytes

MIB = 1 << 20


def test_what_a_process_took_is_the_difference_of_two_measurements() -> None:
    ready, tells = os.pipe()
    waits, goes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(tells, b"x")
        os.read(waits, 1)
        held = mmap.mmap(-1, 10 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for start in range(0, 10 * MIB, mmap.PAGESIZE):
            held[start] = 1
        os.write(tells, b"x")
        os.read(waits, 1)
        os._exit(0)
    os.read(ready, 1)
    before = anonymous_bytes(pid)
    os.write(goes, b"x")
    os.read(ready, 1)
    taken = anonymous_bytes(pid) - before
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for end in (ready, tells, waits, goes):
        os.close(end)

    assert 9 * MIB < taken < 12 * MIB
    assert anonymous_bytes(pid) == 0
