"""What is wrong now, in Turkish, in the order in which it matters."""

from collections.abc import Iterator

from config.settings import Settings
from keys.operations import server_state
from publisher.status.figures import Figures

DAEMONS = {
    server_state.PUBLISH: "Yayıncı",
    server_state.SERVE: "SFTP sunucusu",
    server_state.PORTAL: "Parti sitesi",
    server_state.STAFF: "Personel sitesi",
}
LITTLE_FREE = 0.1  # the free share of a disk below which it is named
_MIN_FREE_BYTES = 1 << 30
_SLOW_SECONDS = 600.0  # a page that waits this much longer than `quiet_seconds` is named


def problems(figures: Figures, settings: Settings) -> list[str]:
    """Return a sentence for each thing that somebody has to look at."""
    return [*_daemons(figures), *_intake(figures, settings), *_machine(figures)]


def _daemons(figures: Figures) -> Iterator[str]:
    for daemon in figures.daemons:
        name = DAEMONS.get(daemon.part, daemon.part)
        if not daemon.running:
            yield f"{name} çalışmıyor."
        elif daemon.listening is False:
            yield f"{name} çalışıyor ama bağlantı kabul etmiyor."
    if figures.publisher is not None and figures.publisher.halted is not None:
        cause, since = figures.publisher.halted
        yield f"Yayıncı {since} anından beri sayfa işlemiyor: {cause}"


def _intake(figures: Figures, settings: Settings) -> Iterator[str]:
    counted = figures.counted
    oldest = counted["oldest_seconds"] or 0
    if oldest > settings.intake.quiet_seconds + _SLOW_SECONDS:
        yield f"En eski sayfa {round(oldest / 60)} dakikadır bekliyor."
    if figures.publisher is not None and figures.publisher.trouble_count:
        number = figures.publisher.trouble_count
        yield f"Tarama klasörlerinde okunamayan {number} dosya ya da klasör var."
    if counted["gaps"]:
        yield f"Parti ağaçlarında {counted['gaps']} bağlantı eksik: ssps verify"


def _machine(figures: Figures) -> Iterator[str]:
    for disk in figures.disks:
        share = disk.free_share
        is_small = disk.total_bytes > 0 and disk.free_bytes < _MIN_FREE_BYTES
        if share is not None and (share < LITTLE_FREE or is_small):
            yield f"{disk.folder}: diskte yer azaldı (%{round(share * 100)} boş)."
    for ledger in figures.ledgers:
        if ledger.unsigned_seconds:
            seconds = round(ledger.unsigned_seconds)
            yield f"{ledger.name} kayıtları {seconds} saniyedir imzalanmıyor."
