import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from config import times

ZONE = timezone(timedelta(hours=3))
NOW = datetime.fromisoformat("2023-05-13T22:10:30.5+00:00")  # 01.10 of the 14th in Turkey


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("now", "2023-05-14T01:10:30+03:00"),
        ("16.30", "2023-05-14T16:30:00+03:00"),
        ("16:30", "2023-05-14T16:30:00+03:00"),
        ("tomorrow 16.30", "2023-05-15T16:30:00+03:00"),
        ("yarin 9.05", "2023-05-15T09:05:00+03:00"),
        ("+45m", "2023-05-14T01:55:30+03:00"),
        ("-10m", "2023-05-14T01:00:30+03:00"),
        ("2023-05-14T16:30", "2023-05-14T16:30:00+03:00"),
        ("2023-05-14 16:30:00", "2023-05-14T16:30:00+03:00"),
        ("2023-05-14T13:30:00Z", "2023-05-14T16:30:00+03:00"),
    ],
)
def test_a_time_without_a_zone_is_in_the_zone_of_the_election(text: str, found: str) -> None:
    assert times.parse_time(text, NOW, ZONE) == datetime.fromisoformat(found)


@pytest.mark.parametrize("text", ["", "soon", "25.00", "16.60", "2023-05-14", "+", "16.30 tomorow"])
def test_an_invalid_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|hour"):
        times.parse_time(text, NOW, ZONE)


@pytest.mark.parametrize(
    ("text", "found"), [("0", 0), ("45m", 2700), ("1h", 3600), ("1h30m", 5400), ("2d", 172800)]
)
def test_a_formatted_duration_is_parsed_to_the_same_duration(text: str, found: int) -> None:
    assert times.parse_duration(text) == timedelta(seconds=found)
    assert times.format_duration(times.parse_duration(text)) == text


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1x", "99999999999999d", "9999d"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|ten years"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("2023-05-14T13:30:00+00:00", "2023-05-14T16:30:00+03:00"),
        ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_time_is_shown_in_the_zone_of_the_election_if_possible(stated: str, found: str) -> None:
    assert times.format_time(datetime.fromisoformat(stated), ZONE) == found


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (None, "-"),
        ("2023-05-14T14:00:00+00:00", "2023-05-14T17:00:00+03:00"),
        ("2023-05-14T14:00:00.987654+00:00", "2023-05-14T17:00:00+03:00"),
    ],
)
def test_a_time_is_written_in_turkey_to_the_second_if_no_zone_is_known(
    stated: str | None, found: str
) -> None:
    assert times.format_time(datetime.fromisoformat(stated) if stated else None) == found


def test_a_written_time_is_read_as_the_same_time() -> None:
    written = times.format_time(datetime(2023, 5, 14, 14, 0, tzinfo=UTC))

    assert times.parse_time(written, NOW) == datetime(2023, 5, 14, 14, 0, tzinfo=UTC)


def test_the_forms_of_machines_are_in_utc() -> None:
    at = datetime(2023, 5, 14, 17, 0, 0, 5, tzinfo=times.TURKEY)

    assert times.format_stored(at) == "2023-05-14T14:00:00.000005+00:00"
    assert times.format_utc(at) == "2023-05-14T14:00:00Z"


# Modules that write a form which a specification fixes, or which no person reads.
OTHER_FORMS = {
    "config/result.py": "the canonical row that results are hashed by",
    "config/snapshot.py": "the column of a snapshot, given back to the reader of batches",
    "keys/credentials/ring.py": "the operations ledger, where changes are compared as text",
    "keys/credentials/users.py": "the operations ledger, where changes are compared as text",
    "keys/ledger/note.py": "the time line of a checkpoint",
    "keys/ledger/record.py": "the time of a ledger's record",
    "keys/operations/announcements.py": "state/announcements.json",
    "keys/server_keys/host.py": "names of former keys",
    "portal/access/sessions.py": "the database of sessions",
    "portal/exports/file_name.py": "names of saved files, which have no colons",
    "portal/service/nist.py": "NIST SP 1500-100",
    "portal/service/ssps_calls.py": "YSK's own interface: SSPS_API",
    "portal/service/ssps_rows.py": "YSK's own interface: SSPS_API",
    "publisher/catalog/decisions/absences.py": "catalog and filing ledger, compared as text",
    "publisher/catalog/decisions/review.py": "catalog and filing ledger, compared as text",
    "publisher/fsck/rebuild_catalog.py": "the catalog and the filing ledger, compared as text",
    "publisher/feed/bagit.py": "the date of a bag (RFC 8493)",
    "publisher/page.py": "names of arrivals",
    "publisher/requests/handler.py": "the catalog and the filing ledger, compared as text",
    "publisher/results/intake/ysk_rows.py": "a batch of SEÇSİS, rewritten as one of ours",
    "publisher/results/snapshots/row_files.py": "the files of a snapshot",
    "publisher/results/snapshots/rows.py": "the exports of a snapshot, in UTC by the manifest",
    "publisher/results/snapshots/snapshot.py": "the files of a snapshot",
    "scripts/audit/exports.py": "xferlog, ECS and OCSF",
    "scripts/audit/report/pages.py": "the same instant in UTC beside a time; ticks between others",
    "scripts/mirror": "one file, without the rest of the project",
    "scripts/rehearsal/synthetic/result_batches.py": "a batch of SEÇSİS",
    "sftpd/ipc/messages.py": "between processes",
}
_WRITERS = {"isoformat", "strftime", "ctime", "asctime"}
_ROOT = Path(__file__).resolve().parents[3]


def writes_a_time(source: str) -> bool:
    """Say whether a module formats a time itself: a call, SQL's strftime, or `f"{at:%H:%M}"`."""
    if not re.search(r"isoformat|strftime|ctime|:[^\n}]*%[a-zA-Z]", source):
        return False
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) if name in _WRITERS:
                return True
            case ast.FormattedValue(format_spec=ast.JoinedStr(values=values)):
                fixed = (v.value for v in values if isinstance(v, ast.Constant))
                if any(re.search("%[a-zA-Z]", str(text)) for text in fixed):
                    return True
            case ast.Constant(value=str(text)) if "strftime(" in text:
                return True
    return False


def modules() -> Iterator[Path]:
    for package in ("config", "keys", "publisher", "sftpd", "portal", "scripts"):
        yield from (_ROOT / package).rglob("*.py")
    yield from (_ROOT / "scripts" / name for name in ("mirror", "results-client"))


def test_every_module_writes_times_by_config_times() -> None:
    writing = {
        path.relative_to(_ROOT).as_posix()
        for path in modules()
        if writes_a_time(path.read_text(encoding="utf-8"))
    }

    assert writing - {"config/times.py"} == set(OTHER_FORMS)


def test_every_template_writes_times_by_the_filter_moment() -> None:
    templates = [path for path in (_ROOT / "portal").rglob("templates/*") if path.is_file()]
    own = [t.name for t in templates if re.search("isoformat|strftime", t.read_text("utf-8"))]

    assert len(templates) > 20
    assert own == []


@pytest.mark.parametrize(
    "source",
    ["at.isoformat()", "at.strftime('%H')", "f'{at:%d.%m.%Y}'", "sql = 'strftime(a, b)'"],
)
def test_a_module_that_writes_a_time_itself_is_found(source: str) -> None:
    assert writes_a_time(source)
    assert not writes_a_time("f'{share:.1%} {n:>8} {n:,}'")
