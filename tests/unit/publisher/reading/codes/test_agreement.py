from publisher.page import Reading
from publisher.reading.codes.agreement import agreement_on

CODE = "1093717526"


def reading(scan: str, x: int, y: int, engine: str = "zxing-cpp", text: str = CODE) -> Reading:
    corners = ((x, y), (x + 100, y), (x + 100, y + 100), (x, y + 100))
    return Reading(text, engine, scan, 2, corners)


def test_two_printed_copies_of_the_same_text_count_as_two_readings() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("whole", 1500, 2100)])

    assert (found.copies, found.agreeing) == (2, 2)
    assert found.lines() == [
        "copy 1 by zxing-cpp, whole, 2 ms",
        "copy 2 by zxing-cpp, whole, 2 ms",
    ]


def test_two_codes_that_are_not_one_above_the_other_do_not_support_each_other() -> None:
    beside = [reading("whole", 1500, 80), reading("whole", 300, 80)]
    below = [reading("whole", 1500, 80), reading("whole", 1500, 700)]

    assert (agreement_on(CODE, beside).copies, agreement_on(CODE, beside).agreeing) == (2, 1)
    assert agreement_on(CODE, below).agreeing == 1
    assert agreement_on(CODE, [*beside, reading("half", 301, 80)]).agreeing == 2


def test_two_engines_reading_one_copy_count_as_two_even_if_their_corners_differ() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("zbar", 1512, 71, "pyzbar")])

    assert (found.copies, found.agreeing, found.engines) == (1, 2, "pyzbar zxing-cpp")


def test_one_pass_that_reads_one_copy_twice_counts_once() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("whole", 1503, 80)])

    assert (found.copies, found.agreeing) == (1, 1)


def test_reading_the_same_pixels_again_adds_nothing() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("crop", 1500, 80)])

    assert (found.copies, found.agreeing) == (1, 1)


def test_codes_with_another_text_do_not_count() -> None:
    found = agreement_on(CODE, [reading("whole", 1, 1), reading("half", 1, 1, text="1093717527")])

    assert found.agreeing == 1
    assert agreement_on("1093717528", [reading("whole", 1, 1)]).agreeing == 0
