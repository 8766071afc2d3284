from publisher.page import Reading
from publisher.reading.agreement import agreement_on

CODE = "1093717526"


def reading(scan: str, x: int, y: int, engine: str = "zxing-cpp", text: str = CODE) -> Reading:
    corners = ((x, y), (x + 100, y), (x + 100, y + 100), (x, y + 100))
    return Reading(text, engine, scan, 2, corners)


def test_two_printed_copies_that_agree_are_two_witnesses() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("whole", 1500, 2100)])

    assert (found.copies, found.agreeing) == (2, 2)
    assert found.lines() == [
        "copy 1 by zxing-cpp, whole, 2 ms",
        "copy 2 by zxing-cpp, whole, 2 ms",
    ]


def test_two_passes_over_one_copy_are_two_witnesses_wherever_each_saw_its_corners() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("zbar", 1512, 71, "pyzbar")])

    assert (found.copies, found.agreeing, found.engines) == (1, 2, "pyzbar zxing-cpp")


def test_one_pass_that_reads_one_copy_twice_is_one_witness() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("whole", 1503, 80)])

    assert (found.copies, found.agreeing) == (1, 1)


def test_the_same_pixels_seen_once_more_are_no_further_witness() -> None:
    found = agreement_on(CODE, [reading("whole", 1500, 80), reading("crop", 1500, 80)])

    assert (found.copies, found.agreeing) == (1, 1)


def test_what_other_codes_say_is_no_witness() -> None:
    found = agreement_on(CODE, [reading("whole", 1, 1), reading("half", 1, 1, text="1093717527")])

    assert found.agreeing == 1
    assert agreement_on("1093717528", [reading("whole", 1, 1)]).agreeing == 0
