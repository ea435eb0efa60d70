"""The generated pages of docs/reference are what the code says today, and the index names every page."""

from __future__ import annotations

import re

import pytest

from p2pfl.errors import all_leaves
from p2pfl.federation.settings import SETTINGS
from tools.reference.pages import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_script_writes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "python -m tools.reference"


def test_the_index_names_every_page_and_no_other() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == {file.name for file in FOLDER.glob("*.md")} - {"README.md"}


def test_no_error_and_no_setting_is_left_out() -> None:
    ours = [leaf.code for leaf in all_leaves()]
    assert re.findall(r"^\| `(P2P-[A-Z]+-\d+)`", PAGES["errors.md"](), re.M) == ours
    assert all(f"| `{setting.key}` |" in PAGES["peers-yaml.md"]() for setting in SETTINGS)


def test_every_command_has_its_section() -> None:
    sections = re.findall(r"^## (p2pfl.*)$", PAGES["cli.md"](), re.M)
    assert {"p2pfl join", "p2pfl peers create", "p2pfl ledger verify"} <= set(sections)
    assert len(set(sections)) == len(sections)
