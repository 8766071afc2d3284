import dataclasses
from pathlib import Path

import numpy as np

from config.sheet import Belge, Secim, Sheet
from publisher.catalog import catalog, print_maps
from publisher.catalog.catalog import Catalog
from publisher.print_map import print_map_of

BOX = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1", 1)
OTHER = dataclasses.replace(BOX, secim=Secim.MV)
MAP = print_map_of(np.full(400, -9.1), np.full(400, 3.1), 20)


def test_the_usual_print_is_learned_for_each_election_contest_and_sheet_type(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir()
    with Catalog(catalog.url(tmp_path)) as opened:
        for _ in range(print_maps.LEAST_PAGES - 1):
            opened.print_maps.learn("secim", BOX, MAP)
        assert opened.usual_print("secim", BOX) is None
        opened.print_maps.learn("secim", BOX, MAP)
        opened.print_maps.learn("secim", OTHER, MAP)
        for _ in range(250):
            opened.print_maps.learn("prova", BOX, MAP)
        opened.commit()

    with Catalog(catalog.url(tmp_path)) as opened:
        found = opened.usual_print("secim", BOX)
        assert found
        assert found.pages == print_maps.LEAST_PAGES
        assert int(found.sums.sum()) == 3 * print_maps.LEAST_PAGES
        assert opened.usual_print("secim", OTHER) is None
        assert len(opened.usual_prints("secim")) == 1
        rehearsed = opened.usual_print("prova", BOX)
        assert rehearsed
        assert rehearsed.pages == 200, "enough is known"
