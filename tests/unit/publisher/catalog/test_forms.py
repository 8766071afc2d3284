from pathlib import Path

import pytest

from config.sheet import Belge
from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog


def test_mean_and_deviation_are_learned_for_each_sheet_type_and_copy(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with Catalog(catalog.url(tmp_path)) as opened:
        for left in (13.8, 14.0, 14.2):
            sides = (left, 0.5, 0.4, 21.0)
            opened.extents.learn(Belge.SANDIK_SONUC, "upper", sides)
        opened.extents.learn(Belge.IL_BIRLESTIRME, "upper", (9, 1, 1, 1))
        opened.commit()

    with Catalog(catalog.url(tmp_path)) as opened:
        found = opened.usual_extent(Belge.SANDIK_SONUC, "upper")
        assert found
        assert found.pages == 3
        assert found.means == pytest.approx((14.0, 0.5, 0.4, 21.0))
        assert found.deviations == pytest.approx((0.163, 0, 0, 0), abs=0.01)
        assert opened.usual_extent(Belge.SANDIK_SONUC, "lower") is None
