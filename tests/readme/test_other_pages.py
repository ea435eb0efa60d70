"""Pages that stand on no other."""

from __future__ import annotations

import pytest

from tests.readme.pages import GOES_ON, README, Reader, trail

PAGES = trail(*(page for page, before in GOES_ON.items() if before is None and page != README))


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_and_print_what_it_shows(page: str, reader: Reader) -> None:
    reader.follow(page)
