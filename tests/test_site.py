"""The manual builds as a site: strictly, with every page in its place, and nothing fetched from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="mkdocs-material is not installed: pip install '.[site]'")

from tests.browser import OVERFLOW, browser

ROOT = Path(__file__).resolve().parents[1]
FETCHED = re.compile(r"""<(?:script|img|iframe|link(?![^>]*rel=.?canonical))[^>]*(?:src|href)=["']?https?://[^"'> ]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(made)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr  # a link or an anchor that leads nowhere fails it
    return made


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    assert {page.name: found for page in pages if (found := FETCHED.findall(page.read_text()))} == {}


@pytest.mark.parametrize("folder", ["guide", "reference", "spec"])
def test_every_page_of_a_folder_stands_in_the_navigation(site: Path, folder: str) -> None:
    start = (site / folder / next(iter(sorted(p.name for p in (site / folder).glob("*.html"))))).read_text()
    told = set(re.findall(r'href="([^"#]+)\.html" class="md-nav__link', start))
    pages = {page.stem for page in (ROOT / "docs" / folder).glob("*.md")}
    assert {name for name in pages if not any(one.split("/")[-1] == name for one in told)} <= {"README"}


def test_links_between_pages_stay_and_links_into_the_code_become_words(site: Path) -> None:
    start = (site / "index.html").read_text()
    assert 'href="SECURITY.html"' in start
    assert 'href="guide/index.html"' in start
    assert "](" not in re.sub(r"<(code|pre).*?</\1>", "", start, flags=re.DOTALL)
    assert not re.findall(r'href="[^"]*\.py"', (site / "guide/own-task.html").read_text())


def test_a_link_that_is_called_by_its_file_is_called_by_the_title_of_its_page(site: Path) -> None:
    """Whoever reads the site knows pages by their titles; the files of the repository are not there."""
    page = (site / "guide/study.html").read_text()
    called = set(re.findall(r'<a href="(?:own-table|statistics)\.html[^"]*">([^<]+)</a>', page))
    assert called == {"Your own table", "Statistics over hospitals"}


LOOKS = {"desk": (1440, False), "phone-at-night": (390, True)}
PAPER = "getComputedStyle(document.body).backgroundColor"
PAGES = ("index", "guide/study", "guide/statistics", "reference/errors", "spec/sharing")


@pytest.mark.parametrize("look", LOOKS)
def test_pages_read_well_in_a_browser_at_both_widths_by_day_and_by_night(look: str, site: Path, tmp_path: Path) -> None:
    """Nothing runs over the edge of the window; the page is as dark as its reader's screen."""
    width, dark = LOOKS[look]
    with browser(tmp_path) as chromium:
        chromium.look(width=width, dark=dark)
        for name in PAGES:
            chromium.open((site / f"{name}.html").as_uri())
            chromium.picture(tmp_path / f"{name.replace('/', '-')}-{look}.png")
            assert chromium.value(OVERFLOW) <= 0, name
            assert (chromium.value(PAPER) == "rgb(255, 255, 255)") is not dark, name
