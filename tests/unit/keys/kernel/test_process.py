import os
import select
import signal

from keys.kernel import process


def test_a_process_ends_with_its_parent() -> None:
    alive, end = os.pipe()
    parent = os.fork()
    if parent == 0:
        middle = os.getpid()
        if os.fork() == 0:
            process.end_with_parent(middle)
            os.write(end, b"+")
            signal.pause()
        os.close(end)
        signal.pause()
    os.close(end)
    assert os.read(alive, 1) == b"+"

    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)

    # The end of the pipe: the grandchild was its last writer.
    assert select.select([alive], [], [], 10)[0]
    assert os.read(alive, 1) == b""
    os.close(alive)


def test_a_process_whose_parent_has_ended_already_is_told() -> None:
    answer, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process.end_with_parent(os.getpid())  # not the parent
        except ProcessLookupError:
            os.write(telling, b"ended")
        os._exit(0)
    os.waitpid(pid, 0)

    assert os.read(answer, 10) == b"ended"
    os.close(answer)
    os.close(telling)


def test_a_sibling_is_a_child_of_the_parent() -> None:
    answer, telling = os.pipe()
    forker = os.fork()
    if forker == 0:
        try:
            pid = process.fork_sibling()
            if pid == 0:
                ready = [os.getpid(), os.getppid()]
                random_after = os.urandom(4).hex()
                os.write(telling, f"sibling {ready} {len(random_after)};".encode())
            else:
                os.write(telling, f"forked {pid};".encode())
        finally:
            os._exit(0)
    os.close(telling)
    os.waitpid(forker, 0)
    pid, status = os.waitpid(-1, 0)  # it is ours, although another process has forked it
    with os.fdopen(answer) as texts:
        said = sorted(texts.read().split(";"))

    assert status == 0
    assert said == ["", f"forked {pid}", f"sibling [{pid}, {os.getpid()}] 8"]


def test_a_signal_that_is_held_arrives_when_the_daemon_has_a_handler() -> None:
    received: list[int] = []
    default = signal.getsignal(signal.SIGHUP)
    try:
        with process.holding_signals():
            signal.raise_signal(signal.SIGHUP)
            signal.signal(signal.SIGHUP, lambda number, _: received.append(number))
            assert received == []
            process.release_signals()
            assert received == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, default)


def test_a_signal_that_is_held_at_the_end_does_not_end_the_process() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    with process.holding_signals():
        signal.raise_signal(signal.SIGHUP)

    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
