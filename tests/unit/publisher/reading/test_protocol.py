import socket
import time

import pytest

from publisher.page import Reading, ReadResult, Reason
from publisher.print_map import SIZE
from publisher.reading.protocol import format_result, parse_result, receive, send

READING = Reading("1093717526", "zxing-cpp", "whole", 2, ((1, 2), (3, 2), (3, 4), (1, 4)))


def test_an_answer_survives_formatting_and_parsing() -> None:
    seen = ReadResult("JPEG", 1654, 2339, (READING,), 9, pixels="0f" * 32, print_map=b"\x1b" * SIZE)

    assert format_result(seen) == (
        b'["JPEG", 1654, 2339, [["1093717526", "zxing-cpp", "whole", 2, '
        b"[[1, 2], [3, 2], [3, 4], [1, 4]]]], 9, null, 1, "
        + b'"%s", "%s"]'
        % (b"0f" * 32, b"Gxsb" * (SIZE // 3))
    )
    assert parse_result(format_result(seen)) == seen
    assert parse_result(format_result(ReadResult(fault=Reason.EMPTY))) == ReadResult(
        fault=Reason.EMPTY
    )


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b"[]", b"null", b"\xff", b'["JPEG",1,1,[[1]],0,null,1,null,null]', b"[" * 100_000,
     b'["JPEG",1,1,[],0,"no such reason",1,null,null]', b'["JPEG","x",1,[],0,null,1,null,null]',
     b'["GIF",1,1,[],0,null,1,null,null]', b'[null,1,1,[],0,null,1,null,null]',
     b'[["PNG"],1,1,[],0,null,1,null,null]', b'["PNG",Infinity,1,[],0,null,1,null,null]',
     b'["PNG",1.0,1,[],0,null,1,null,null]', b'["PNG",true,1,[],0,null,1,null,null]',
     b'["PNG",1,-1,[],0,null,1,null,null]', b'["PNG",1,1,[],2147483648,null,1,null,null]',
     b'["PNG",1,1,{},0,null,1,null,null]', b'["PNG",1,1,[[1,"e","s",1,[]]],0,null,1,null,null]',
     b'["PNG",1,1,[["t","e","s",-1,[]]],0,null,1,null,null]',
     b'["PNG",1,1,[["t","e","s",1,[[1,1e9]]]],0,null,1,null,null]',
     b'["PNG",1,1,[["t","e","s",1,5]],0,null,1,null,null]',
     b'["PNG",1,1,[["\\ud800","e","s",1,[]]],0,null,1,null,null]',
     b'{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1}', b'["PNG",1,1,[],0,null,1,null]',
     b'["PNG",1,1,[],0,null,0,null,null]', b'["PNG",1,1,[],0,null,65,null,null]',
     b'["PNG",1,1,[],0,null,1,"x",null]', b'["PNG",1,1,[],0,null,1,7,null]',
     b'["PNG",1,1,[],0,null,1,null,"AAAA"]', b'["PNG",1,1,[],0,null,1,null,"?"]',
     b'["PNG",1,1,[],0,null,1,null,7]',
     b'["PNG",1,1,[["%s","e","s",1,[]]],0,null,1,null,null]' % (b"x" * 4097),
     b'["PNG",1,1,[%s],0,null,1,null,null]' % b",".join([b'["t","e","s",1,[]]'] * 65)],
)  # fmt: skip
def test_an_invalid_answer_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):
        parse_result(answer)


def test_a_message_arrives_complete_and_a_closed_socket_returns_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, b"x" * 1000)
        assert receive(theirs, 1000) == b"x" * 1000
        ours.sendall(b"\0\0\0\x05abc")
        ours.close()
        assert receive(theirs, 1000) is None


def test_a_message_that_is_too_long_or_too_slow_raises() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(ValueError, match="at most 1000"):
            receive(theirs, 1000)
        ours.sendall(b"\0\0\0\x05abc")
        with pytest.raises(TimeoutError):
            receive(theirs, 1000, time.monotonic() + 0.02)


def test_the_longest_allowed_answer_is_parsed() -> None:
    many = ReadResult(
        "PNG", 1, 1, (Reading("x" * 4096, "pyzbar", "zbar", 1, ((-1, 2**31 - 1),)),) * 64
    )

    assert parse_result(format_result(many)) == many
