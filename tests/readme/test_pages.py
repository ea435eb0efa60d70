"""Every page has its place, every block says whether it is run, and no page stands in the way of another."""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from tests.commands import parse
from tests.readme import test_by_hand, test_other_pages, test_own_table, test_readme
from tests.readme.pages import BLOCK, GOES_ON, GUIDE, PORT, README, ROOT, blocks

MOST_README_BYTES = 8192


def test_every_page_of_the_guide_has_its_place_and_the_readme_its_size() -> None:
    assert {f"{GUIDE}/{file.name}" for file in (ROOT / GUIDE).glob("*.md")} | {README} == set(GOES_ON)
    assert len((ROOT / README).read_bytes()) <= MOST_README_BYTES
    index = (ROOT / GUIDE / "README.md").read_text()
    assert all(f"]({Path(page).name})" in index for page in GOES_ON if not page.endswith(README))


def test_each_number_of_the_readme_is_one_that_its_script_is_said_to_have_found() -> None:
    numbers = r"[0-9.]+(?: ± [0-9.]+)?"
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| `(benchmarks/\w+\.py)` \|$", (ROOT / README).read_text(), re.M)
    found = [line for line in (ROOT / "docs/benchmarks.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 3
    for told, script in rows:
        of_script = [set(re.findall(numbers, line)) for line in found if f"`{script}`" in line]
        assert any(set(re.findall(numbers, told)) <= one for one in of_script), told


@pytest.mark.parametrize("page", GOES_ON)
def test_every_block_of_commands_says_whether_it_is_run(page: str) -> None:
    for block in blocks(page):
        if block.kind == "sh":
            assert block.verb in ("run", "run together", "not run"), block.text
        if block.kind == "python":
            assert block.verb == "file", block.text
    shown = {block.name.partition(",")[0] for block in blocks(page) if block.verb == "output of"}
    assert shown <= {block.name for block in blocks(page) if block.verb.startswith("run")}


@pytest.mark.parametrize("page", GOES_ON)
def test_every_command_in_the_text_of_a_page_is_one_that_the_program_takes(page: str) -> None:
    text = BLOCK.sub("", (ROOT / page).read_text())
    for command in re.findall(r"`p2pfl\s([^`]+)`", text):
        with contextlib.suppress(click.MissingParameter):  # a verb is named, and not all that it wants
            parse(shlex.split(command))


def test_each_page_with_commands_is_followed_by_one_file_of_tests() -> None:
    followed = [page for file in (test_readme, test_by_hand, test_own_table, test_other_pages) for page in file.PAGES]
    with_commands = {page for page in GOES_ON if any(block.verb.startswith("run") for block in blocks(page))}
    assert sorted(followed) == sorted(with_commands)


def test_whoever_follows_all_pages_in_one_folder_makes_no_home_key_or_port_twice() -> None:
    made: list[str] = []
    for page in GOES_ON:
        for block in blocks(page):
            for line in re.findall(r"^p2pfl init (.*)$", block.text, re.M) if block.verb == "run" else []:
                words = shlex.split(line)
                option = dict(itertools.pairwise(words))
                made += [option["--home"], option.get("--key-file", f"key of {option['--name']}")]
                made += [option["--listen"]] if "--listen" in option else []
    assert len(made) > 50
    assert sorted(made) == sorted(set(made))


@pytest.mark.parametrize("page", GOES_ON)
def test_each_port_that_a_page_uses_is_written_so_that_a_free_one_takes_its_place(page: str) -> None:
    run = [block.text for block in blocks(page) if block.verb.startswith("run") or block.verb == "file"]
    assert [text for text in run if len(re.findall(r"127\.0\.0\.1:", text)) != len(PORT.findall(text))] == []


def test_every_script_that_the_numbers_name_exists() -> None:
    named = re.findall(r"`(benchmarks/\w+\.py)", (ROOT / "docs/benchmarks.md").read_text())
    assert len(named) > 10
    for script in named:
        assert (ROOT / script).is_file(), script
