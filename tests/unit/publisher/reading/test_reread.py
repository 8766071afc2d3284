"""A page that is read again as an operator asks."""

import time

import pytest
from PIL import Image
from structlog.testing import capture_logs
from unit.publisher.conftest import Draw, Encode

from publisher.page import ReadResult, Reason
from publisher.reading import reread
from publisher.reading.protocol import format_result, parse_result
from publisher.reading.reread_task import (
    RereadSettings,
    format_task,
    parse_settings,
    parse_task,
)
from publisher.requests.queue import Answer
from publisher.requests.rereader import Rereader

CB, MV = "1093717526", "1093717527"


def seen(settings: str, content: bytes) -> ReadResult:
    (found,) = reread.answers(format_task(parse_settings(settings), content))
    return parse_result(format_result(found))


@pytest.mark.slow
def test_every_pass_is_made_although_the_first_two_agree(draw: Draw, encode: Encode) -> None:
    found = seen("1 0 -", encode(draw(CB, CB)))

    assert (found.format, found.width, found.height) == ("JPEG", 900, 1500)
    scans = {(r.engine, r.scan) for r in found.readings if r.text == CB}
    assert len(scans) > 10
    assert {engine for engine, _ in scans} >= {"zxing-cpp", "pyzbar"}


@pytest.mark.slow
def test_only_the_part_that_is_asked_for_is_read_and_corners_are_those_of_the_page(
    draw: Draw, encode: Encode
) -> None:
    page = encode(draw(CB, MV))

    upper, lower = seen("1 0 600,0,900,400", page), seen("1 180 600,1000,900,1500", page)

    assert CB in upper.texts and MV not in upper.texts
    assert MV in lower.texts and CB not in lower.texts
    for found, text, (left, top) in ((upper, CB, (720, 60)), (lower, MV, (720, 1180))):
        corners = next(r.corners for r in found.readings if r.text == text)
        assert all(left <= x <= left + 150 and top <= y <= top + 150 for x, y in corners)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_point_of_a_turned_picture_is_found_again(turn: int) -> None:
    picture = Image.new("L", (5, 3), 0)
    picture.putpixel((4, 1), 255)
    turned = picture.transpose(reread._TURNED[turn]) if turn else picture
    (at,) = [
        (x, y) for x in range(turned.width) for y in range(turned.height) if turned.getpixel((x, y))
    ]
    assert reread.unturned(*at, picture.size, turn) == (4, 1)


def test_a_file_that_cannot_be_opened_has_a_fault() -> None:
    assert seen("1 0 -", b"nothing").fault is Reason.NOT_AN_IMAGE


def test_settings_are_parsed_as_they_were_written() -> None:
    for settings in (RereadSettings(), RereadSettings(2, 270, (0, 1, 2, 30))):
        assert parse_settings(str(settings)) == settings
        assert parse_task(format_task(settings, b"a\nb")) == (settings, b"a\nb")


@pytest.mark.parametrize(
    "line",
    ["", "1", "0 0 -", "1 45 -", "1 0 1,2,3", "1 0 5,0,5,9", "1 0 0,9,9,0", "1 0 0,0,999999,9",
     "1 0 -\n", "٢ 0 -", "1 0 -1,0,2,2"],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"page|worker|settings"):
        parse_settings(line)


@pytest.mark.slow
def test_a_sandboxed_worker_answers_beside_the_filing(draw: Draw, encode: Encode) -> None:
    task = format_task(RereadSettings(), encode(draw(CB, CB)))
    rereader = Rereader()
    try:
        answer = None
        while answer is None:
            answer = rereader.answer("a", lambda: task)
        assert answer.done
        assert CB in parse_result(answer.message.encode()).texts
    finally:
        rereader.close()


def test_a_task_that_cannot_be_made_is_answered_with_the_cause() -> None:
    def task() -> bytes:
        raise ValueError("no such file")

    rereader = Rereader()
    try:
        answer = None
        while answer is None:
            answer = rereader.answer("a", task)
    finally:
        rereader.close()
    assert answer == Answer(False, "no such file")


def test_a_task_that_fails_in_an_unknown_way_does_not_end_the_thread() -> None:
    def fail() -> bytes:
        raise KeyError("forgotten")

    def next_one() -> bytes:
        raise ValueError("no such file")

    rereader = Rereader()
    deadline = time.monotonic() + 20
    found: dict[str, Answer | None] = {"a": None, "b": None}
    try:
        with capture_logs() as logged:
            while not all(found.values()) and time.monotonic() < deadline:
                for name, task in (("a", fail), ("b", next_one)):
                    found[name] = found[name] or rereader.answer(name, task)
    finally:
        rereader.close()

    assert found == {"a": Answer(False, "'forgotten'"), "b": Answer(False, "no such file")}
    assert [line["event"] for line in logged] == ["reread-failed"]
