"""Questions that other sites proposed, on the dashboard: those that wait here, and nothing else that lies there."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.cli.dashboard.questions import MOST_BYTES, MOST_FILES, ProposedHere
from p2pfl.cli.main import run
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.cli.sites import Sites
from tests.cli.test_stats import TASK

Waiting = Callable[[], list[dict[str, str]]]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    folder = tmp_path_factory.mktemp("sites")
    (folder / "task.yaml").write_text(TASK)
    standing = "statistics.standing=[crosstab]"
    return Sites(folder, standing, files=dict.fromkeys(("ada", "ben", "cyd"), b""), task=str(folder / "task.yaml"))


def key(sites: Sites, name: str) -> list[str]:
    return ["--key-file", str(sites.folder / name / "site.key")]


def proposed(sites: Sites, by: str, file: Path, *words: str) -> None:
    assert run(["stats", "propose", *words, "-o", str(file), *sites.common(by), *key(sites, by)]) == 0


@pytest.fixture
def waiting(sites: Sites, tmp_path: Path) -> Waiting:
    """What ada's dashboard shows of the questions in `tmp_path`; the same one is asked again and again."""
    here = ProposedHere(tmp_path, sites.peers)

    def look() -> list[dict[str, str]]:
        keys = [KeyFile(sites.folder / "ada" / "site.key")]
        with Home.open(sites.folder / "ada" / "home", unlock=keys, write=False) as home:
            return here.waiting(home, Federation.load(sites.peers))

    return look


def test_a_question_of_another_site_waits_until_the_command_beside_it_was_run(
    sites: Sites, tmp_path: Path, waiting: Waiting
) -> None:
    assert waiting() == []
    file = tmp_path / "from ben; reboot.yaml"  # what is copied from the page is one word of a shell
    proposed(sites, "ben", file, "describe", "--columns", "age,sex", "--bins", "8")
    (one,) = waiting()
    assert one["what"].startswith("ben proposes describe of age, sex. Columns: age, sex. Asked: ")
    assert '"bins": 8' in one["what"]
    words = shlex.split(one["command"])
    assert words[:4] == ["p2pfl", "stats", "approve", str(file)]
    assert run([*words[1:], *key(sites, "ada")]) == 0
    assert waiting() == []


def test_a_files_name_is_no_option_of_the_command_beside_it(
    sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home that is named is the home, too, and not the folder that a further study has in it."""
    monkeypatch.chdir(tmp_path)
    proposed(sites, "ben", Path("./-o.yaml"), "describe", "--columns", "chol", "--bins", "3")
    with Home.open(
        sites.folder / "ada" / "home", unlock=[KeyFile(sites.folder / "ada" / "site.key")], write=False
    ) as home:
        (one,) = ProposedHere(Path()).waiting(home.as_study("second"), Federation.load(sites.peers))
    words = shlex.split(one["command"])
    assert words[3:] == ["./-o.yaml", "--home", str(sites.folder / "ada" / "home")]


def test_a_question_in_two_files_is_shown_once_and_one_of_a_standing_kind_never(
    sites: Sites, tmp_path: Path, waiting: Waiting
) -> None:
    proposed(sites, "ben", tmp_path / "one.yaml", "describe", "--columns", "chol")
    proposed(sites, "cyd", tmp_path / "two.yaml", "describe", "--columns", "chol")
    proposed(sites, "cyd", tmp_path / "three.yaml", "crosstab", "--rows", "sex", "--columns", "ward")
    (one,) = waiting()
    assert one["what"].startswith("ben proposes")


def test_a_question_that_was_changed_or_is_of_another_federation_is_told_as_unfit(
    sites: Sites, tmp_path: Path, waiting: Waiting
) -> None:
    file = tmp_path / "changed.yaml"
    proposed(sites, "ben", file, "describe", "--columns", "months", "--bins", "8")
    assert waiting()[0]["what"].startswith("ben proposes")
    file.write_text(file.read_text().replace("bins: 8", "bins: 9"))
    (one,) = waiting()
    assert one["what"].startswith("changed.yaml holds no question that can be asked here")


@pytest.mark.claim("DASH-4")
def test_nothing_else_that_lies_there_is_opened_or_shown(sites: Sites, tmp_path: Path, waiting: Waiting) -> None:
    """A pipe that somebody holds open for writing would hang the page; a link would read what it points to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    proposed(sites, "ben", elsewhere / "real.yaml", "describe", "--columns", "visits")
    (tmp_path / "link.yaml").symlink_to(elsewhere / "real.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    pipe = os.open(tmp_path / "pipe.yaml", os.O_RDWR)
    try:
        (tmp_path / "folder.yaml").mkdir()
        (tmp_path / "peers.yaml").write_bytes(sites.peers.read_bytes())
        (tmp_path / "noise.yaml").write_bytes(bytes(range(256)))
        (tmp_path / "large.yaml").write_bytes(b"# p2pfl: a question\n" + b"#" * MOST_BYTES)
        (tmp_path / "two\nlines.yaml").write_bytes((elsewhere / "real.yaml").read_bytes())
        (tmp_path / "real.txt").write_bytes((elsewhere / "real.yaml").read_bytes())
        assert waiting() == []
    finally:
        os.close(pipe)


def test_of_a_folder_of_many_files_few_are_read(sites: Sites, tmp_path: Path, waiting: Waiting) -> None:
    for at in range(MOST_FILES):
        (tmp_path / f"a{at:03}.yaml").write_bytes(b"{")
    proposed(sites, "ben", tmp_path / "z.yaml", "describe", "--columns", "risk")
    assert waiting() == []
    (tmp_path / "a000.yaml").unlink()
    assert len(waiting()) == 1
