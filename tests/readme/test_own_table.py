"""A table of one's own, and what comes of its model."""

from __future__ import annotations

import pytest

from tests.readme.pages import GUIDE, Reader, trail

PAGES = trail(f"{GUIDE}/own-table.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_and_print_what_it_shows(page: str, reader: Reader) -> None:
    reader.follow(page)
