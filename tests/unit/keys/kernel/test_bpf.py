import pytest

from keys.kernel import bpf

TABLE = """
read 0 63           fork 57 -
openat2 437 437
"""


def test_an_instruction_is_8_bytes() -> None:
    assert bpf.deny() == bytes.fromhex("0600 00 00 01000500")
    assert bpf.allow() == bytes.fromhex("0600 00 00 0000ff7f")
    assert bpf.instruction(bpf.EQUAL, 59, 1, 2) == bytes.fromhex("1500 01 02 3b000000")


def test_an_argument_is_loaded_from_its_offset_in_seccomp_data() -> None:
    assert bpf.load_argument(1) == bytes.fromhex("2000 00 00 18000000")


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [
        ("x86_64", {"read": 0, "fork": 57, "openat2": 437}),
        ("aarch64", {"read": 63, "openat2": 437}),
    ],
)
def test_a_table_gives_the_numbers_of_one_architecture(
    machine: str, numbers: dict[str, int]
) -> None:
    assert bpf.call_numbers(TABLE, machine) == numbers


def test_a_table_with_a_missing_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="argument"):
        bpf.call_numbers("read 0 63 write 1", "aarch64")


def test_an_unknown_machine_has_no_filter() -> None:
    assert not bpf.supported("riscv64")
    with pytest.raises(KeyError):
        bpf.require_architecture("riscv64")
