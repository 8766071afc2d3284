from pathlib import Path

import pytest

from config.site import REQUESTS
from publisher.requests import queue
from publisher.requests.queue import Answer, Request, format_request, parse_request

BURNT = Request(
    "20230514T180000000000-0000000a",
    "absent",
    ("ayse",),
    "ysk-1",
    "minutes of 14 May",
    {"place": "34-istanbul-1/kadikoy-2/1234", "reason": "burnt"},
)
LINE = (
    b'{"by": ["ayse"], "detail": {"place": "34-istanbul-1/kadikoy-2/1234", "reason": "burnt"}, '
    b'"from": "ysk-1", "kind": "absent", "why": "minutes of 14 May"}\n'
)


def test_a_request_is_parsed_as_it_was_formatted() -> None:
    assert format_request(BURNT) == LINE
    assert parse_request(BURNT.id, LINE) == BURNT


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", LINE.replace(b'["ayse"]', b"[]"), LINE.replace(b'"absent"', b'"format"'),
     LINE.replace(b'["ayse"]', b'"ayse"'), LINE.replace(b'"ysk-1"', b"1")],
)  # fmt: skip
def test_an_invalid_request_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"request|Expecting"):
        parse_request("x", content)


def test_a_request_is_pending_until_it_is_answered_and_the_answer_is_taken_once(
    tmp_path: Path,
) -> None:
    assert list(queue.pending(tmp_path)) == []
    queue.submit(tmp_path, BURNT)
    assert list(queue.pending(tmp_path)) == [BURNT]
    assert queue.take_answer(tmp_path, BURNT.id) is None

    queue.write_answer(tmp_path, BURNT.id, Answer(True, "done"))

    assert list(queue.pending(tmp_path)) == []
    assert queue.take_answer(tmp_path, BURNT.id) == Answer(True, "done")
    assert queue.take_answer(tmp_path, BURNT.id) is None


def test_an_invalid_file_in_the_folder_is_answered_and_blocks_no_request(tmp_path: Path) -> None:
    queue.submit(tmp_path, BURNT)
    (tmp_path / REQUESTS / "0.json").write_bytes(b"rubbish")

    assert list(queue.pending(tmp_path)) == [BURNT]

    answer = queue.take_answer(tmp_path, "0")
    assert answer is not None
    assert not answer.done
