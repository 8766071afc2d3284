"""What a process has freed goes back to the kernel."""

import subprocess
import sys

import pytest

PROGRAM = """
from pathlib import Path
from keys.kernel import allocator

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

blocks = [bytearray(100_000) for _ in range(600)]
last = bytearray(100_000)  # the heap cannot shrink below it
del blocks
before = resident()
allocator.return_free_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is one of glibc")
def test_free_blocks_below_one_that_is_used_are_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    assert int(done.stdout) > 40_000_000
