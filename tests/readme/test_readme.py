"""README, and the pages that go on with its three people and its demo."""

from __future__ import annotations

import pytest

from p2pfl.training.tasks.heart_records import deal
from tests.readme.pages import DEMO_SITES, README, Reader, trail

PAGES = trail(README)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work_and_print_what_it_shows(page: str, reader: Reader) -> None:
    reader.follow(page)


def test_the_demo_leaves_the_records_on_which_other_pages_stand(reader: Reader) -> None:
    reader.follow(README)
    left = {file.parent.name: file.read_bytes() for file in (reader.folder / "demo").glob("*/records.csv")}
    assert left == dict(deal(DEMO_SITES).files)
