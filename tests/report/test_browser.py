"""A report in a real Chromium: as wide as a desk, a telephone and a sheet, by day and by night; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the extra [report]")
pytest.importorskip("jinja2", reason="needs the extra [report]")

from p2pfl.report.study import Beside, SentBytes
from tests.browser import OVERFLOW, Browser, browser
from tests.report.sample import Sample, model_of
from tests.report.test_page import CURVES, LONG, made

LOOKS = {"desk": (1100, False, False), "phone-at-night": (390, True, False), "sheet-at-night": (660, True, True)}
# Contrast (WCAG 2) of every text in the page, figures included, against the page: the smallest.
CONTRAST = """
(() => { const level = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(x => { x /= 255;
    return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const paper = level(getComputedStyle(document.documentElement).backgroundColor);
  let least = 21;
  for (const one of document.querySelectorAll("p, td, th, h1, h2, h3, dt, dd, figcaption, svg text")) {
    const style = getComputedStyle(one); const ink = level(one.closest("svg") ? style.fill : style.color);
    least = Math.min(least, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)); }
  return least; })()
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("report")
    beside = Beside(
        sent=[SentBytes(one, 20_000 + 100 * one, 18_000) for one in range(1, 5)],
        curves=replace(CURVES, model=model_of(5)),
    )
    sample = Sample(names=LONG[:5], rounds=4, absent={2: LONG[3:4]}, questions=("mean age", "x" * 190))
    (folder / "report.html").write_text(made(folder, sample, beside))
    with browser(folder) as started:
        started.open((folder / "report.html").as_uri())
        yield started


@pytest.mark.parametrize("look", LOOKS)
def test_a_report_reads_well_at_every_width_by_day_and_by_night(look: str, chromium: Browser, tmp_path: Path) -> None:
    """Nothing runs over the edge, every text has a contrast of 4.5, and paper is light whatever the screen is."""
    width, dark, printed = LOOKS[look]
    chromium.look(width=width, dark=dark, printed=printed)
    chromium.picture(tmp_path / f"{look}.png")
    assert (tmp_path / f"{look}.png").stat().st_size > 20_000
    assert chromium.value(OVERFLOW) <= 0
    assert chromium.value(CONTRAST) >= 4.5
    light = chromium.value("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert light is (printed or not dark)


@pytest.mark.claim("REPORT-1")
def test_a_browser_asks_for_nothing_and_complains_of_nothing(chromium: Browser) -> None:
    asked = [one for one in chromium.requested if one != "about:blank"]
    assert len(asked) == 1
    assert asked[0].startswith("file:")
    assert chromium.complaints == []


def test_pictures_have_names_for_those_who_do_not_see_them(chromium: Browser) -> None:
    tree = chromium.call("Accessibility.getFullAXTree")["nodes"]
    names = [
        one["name"]["value"]
        for one in tree
        if one.get("role", {}).get("value") in ("image", "img", "graphics-document")
    ]
    assert len(names) == 6
    assert all(len(name) > 30 for name in names)
