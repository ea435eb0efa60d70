"""`init` killed at each step that it takes on the disk: what it left is told, and the verbs make a whole site of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfl.cli.main import run
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from tests.end_to_end.processes import PATIENCE_S, ROOT

# A process for every other step, which is killed before it takes that step; the last of them takes all of them.
KILLED = """
import functools, itertools, json, os, signal, sys
from p2pfl.cli.main import run
from p2pfl.home import home as homes
folder, there = sys.argv[1], sys.argv[2] == "there"
create = homes.Home.create
for number in itertools.count(1 + there, 2):
    place = os.path.join(folder, str(number))
    os.makedirs(os.path.join(place, "home") if there else place)
    child = os.fork()
    if not child:
        left = iter(range(1, number + 1))
        def fault(step, path):
            if next(left) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        homes.Home.create = functools.partial(create, fault=fault)
        words = [one.replace("PLACE", place) for one in json.loads(sys.argv[3])]
        os._exit(run(words))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not status:
        break
    assert status == -signal.SIGKILL, status
"""
WORDS = ["--name", "mayo", "--home", "PLACE/home", "--listen", "10.1.2.3:7443"]
KEY = ["--key-file", "PLACE/keys/mayo.key"]


def words(place: Path, *given: str) -> list[str]:
    return [one.replace("PLACE", str(place)) for one in given]


@pytest.mark.parametrize("there", ["there", "not there"])
def test_a_killed_init_leaves_what_the_verbs_make_a_whole_site_of(
    tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder is there and empty, as a volume is, or is made. In the first case it is built where it stays.

    The steps are the same in both: the odd ones here, the even ones there.
    """
    given = json.dumps(["init", *WORDS, *KEY])
    command = [sys.executable, "-c", KILLED, str(tmp_path), there, given]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    *killed, _ = sorted(int(place.name) for place in tmp_path.iterdir())
    told = [mended(tmp_path / str(number), capsys) for number in killed]
    assert len(told) > 20
    assert {*told} == {"nothing", "key", "half a home", "no card"} - ({"half a home"} if there != "there" else set())
    assert told == sorted(told, key=["nothing", "key", "half a home", "no card"].index)


def mended(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Do what the errors of `init` say until there is a site; what was left."""
    left, key, home = "nothing", place / "keys" / "mayo.key", place / "home"
    status = run(words(place, "init", *WORDS, *KEY))
    said = capsys.readouterr().err
    if "it holds the home of mayo" in said:
        left = "no card"
        assert "init --card writes its card once more" in said
        status = run(words(place, "init", *WORDS, "--card", "--open-with", f"key-file:{key}"))
    if "files that are no home" in said:
        left = "half a home"
        assert "an init was interrupted here" in said
        home.rename(place / "put away")
        home.mkdir()
        status = run(words(place, "init", *WORDS, *KEY))
        said = capsys.readouterr().err
    if "P2P-KEY-005" in said:
        left = left if left == "half a home" else "key"
        assert "an earlier init was interrupted" in said
        key.rename(place / "an old key")
        status = run(words(place, "init", *WORDS, *KEY))
    assert status == 0, capsys.readouterr().err
    with Home.open(home, unlock=[KeyFile(key)]) as opened:
        assert Card.load(home / "mayo.card").member.key == opened.identity().key
    assert not [*place.rglob("*.card.new")]
    return left
