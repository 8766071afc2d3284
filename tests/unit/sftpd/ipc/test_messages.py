import pytest

from sftpd.ipc.messages import Message, MessageKind, pack, unpack


def test_the_example_of_the_docstring_byte_by_byte() -> None:
    message = Message(MessageKind.OPEN, (b"/BENIOKU.txt", b""), 4, 200_000)
    packed = b"O" + bytes.fromhex("00000004 0000000000030d40 00 000d") + b"/BENIOKU.txt\0"
    assert pack(message) == packed
    assert unpack(packed) == [message]
    assert unpack(packed + packed) == [message, message]


@pytest.mark.parametrize("kind", list(MessageKind))
def test_every_kind_is_parsed_as_it_was_packed(kind: MessageKind) -> None:
    message = Message(kind, tuple(f"ç{n}".encode() for n in range(len(kind.texts))), 7, 1, True)
    assert unpack(pack(message)) == [message]


def test_a_path_is_cut_at_4096_bytes_and_loses_nuls() -> None:
    message = Message(MessageKind.LIST, (b"/\xff\n" + b"x" * 5000,), 1)
    (found,) = unpack(pack(message))
    assert found.texts == ((b"/\xff\n" + b"x" * 5000)[:4096],)
    (found,) = unpack(pack(Message(MessageKind.LIST, (b"/a\0b",), 1)))
    assert found.texts == (b"/ab",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"O",
        b"?" + bytes(14) + b"\1/",
        b"A" + bytes(14) + b"\7one\0two",
        b"L" + bytes(14) + b"\7one\0two",
        b"L" + bytes(14) + b"\7one",
        b"L" + bytes(14) + b"\3one\0two",
        b"C" + bytes(4) + b"\xff" * 8 + b"\0\0\1\0",
        b"L" + bytes(13) + b"\x10\x01" + b"x" * 4097,
    ],
)
def test_a_malformed_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="message"):
        unpack(data)
