"""Three or more sites on this machine's loopback, as people start them: homes, keys, records, processes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from p2pfl.cli.peers.create import task_lines
from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.roster import Address
from p2pfl.training.tasks.heart_records import deal
from tests.ports import free_ports

DEADLINE_S = 600  # a hang, not a speed

Start = Callable[..., "subprocess.Popen[str]"]


class Sites:
    """Sites with homes, keys and records in `folder`, and their peers.yaml."""

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        count: int = 3,
        files: Mapping[str, bytes] | None = None,
        task: str | None = None,
    ) -> None:
        """`files`: each site's CSV, by default the demo's, dealt to `count` sites; `task`: as `peers create --task`."""
        self.folder, self.peers, self.task = folder, folder / "peers.yaml", task
        files = deal(count).files if files is None else files
        self.names = list(files)
        self.ports = free_ports(len(files))
        self.members = []
        for (name, raw), port in zip(files.items(), self.ports, strict=True):
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "records.csv").write_bytes(raw)
            with Home.create(folder / name / "home", name, [KeyFile(folder / name / "site.key")]) as home:
                self.members.append(Card.sign(home.identity(), name, [Address("127.0.0.1", port)]).member)
        self.peers.write_bytes(self.peers_yaml(*overrides))

    def peers_yaml(self, *overrides: str) -> bytes:
        return draft.peers_file("trial", self.members, task_lines(self.task), overrides)

    def common(self, name: str) -> list[str]:
        return ["--peers", str(self.peers), "--home", str(self.folder / name / "home")]

    def join(self, name: str, *more: str) -> list[str]:
        return ["join", *self.common(name), "--data", str(self.folder / name / "records.csv"), *more]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def facts(out: str) -> dict[str, object]:
    found = json.loads(out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


AT_THE_END_OF_PASS = ("unlink", "state/pass")  # and which one: a step on the disk, for `start(…, at=…)`


def said(process: subprocess.Popen[str], what: str) -> str:
    """The first line of its progress that holds `what`."""
    heard = []
    for line in process.stderr or ():
        heard.append(line)
        if what in line:
            return line
    raise AssertionError(f"it ended without saying {what!r}: {heard}")
