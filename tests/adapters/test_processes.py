"""Three real processes each, over TLS and masked sums: Flower ClientApps, MONAI ClientAlgos, scikit-learn models."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from p2pfl.adapters.first import write_first
from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.ledger.auditor import main as audit
from p2pfl.roster import Address
from tests.cli.conftest import start  # noqa: F401
from tests.cli.sites import Start, ended, facts, said
from tests.ports import free_ports

HERE = Path(__file__).parent
NAMES = ("ada", "ben", "cyd")
SETTINGS = ("privacy=none", "rounds=3", "sharing.scale=10")
ZEROS = [np.zeros(30), np.zeros(1)]


class Clients:
    """Three homes, a peers.yaml that agrees on a kind of client, and the client's module where the commands run."""

    def __init__(self, folder: Path, kind: str, metric: str, first: list[Any] | None = None) -> None:
        self.folder, self.kind = folder, kind
        shutil.copy(HERE / f"{kind}_clients.py", folder / "client.py")
        self.more = []
        if first is not None:
            write_first(folder / "first.safetensors", first)
            self.more = ["--first", "first.safetensors"]
        members = []
        for name, port in zip(NAMES, free_ports(len(NAMES)), strict=True):
            (folder / name).mkdir()
            with Home.create(folder / name / "home", name, [KeyFile(folder / name / "site.key")]) as home:
                members.append(Card.sign(home.identity(), name, [Address("127.0.0.1", port)]).member)
        pinned = hashlib.sha256((folder / "first.safetensors").read_bytes()).digest() if first is not None else None
        lines = draft.client_lines(kind, pinned, [metric])
        (folder / "peers.yaml").write_bytes(draft.peers_file("trial", members, lines, SETTINGS))

    def run(self, name: str, what: str, *more: str) -> list[str]:
        return ["run", f"--{self.kind}", f"client:{what}", "--home", f"{name}/home", *self.more, *more, "--json"]


def told(results: list[tuple[int, str, str]]) -> list[dict[str, Any]]:
    assert [status for status, _, _ in results] == [0] * len(NAMES), [err for _, _, err in results]
    found: list[dict[str, Any]] = [facts(out) for _, out, _ in results]
    assert len({one["ledger"]["root"] for one in found}) == 1
    assert all(one["ledger"]["verified"] and one["rounds_completed"] == 3 for one in found)
    assert [(one["privacy"], one["epsilon"], one["max_epsilon"]) for one in found] == [("none", None, None)] * 3
    return found


def the_models_are_one(clients: Clients, start: Start) -> Path:  # noqa: F811
    """What each site exports is the same file, and says of itself that nothing was private."""
    for name in NAMES:
        path = clients.folder / f"{name}.safetensors"
        status, out, err = ended(start("model", "export", "-o", str(path), "--home", f"{name}/home"))
        assert status == 0, err
        assert "NONE: trained without differential privacy" in out
    assert len({(clients.folder / f"{name}.safetensors").read_bytes() for name in NAMES}) == 1
    return clients.folder / "ada.safetensors"


@pytest.mark.claim("PLAIN-1")
def test_three_flower_client_apps_train_though_one_dies(tmp_path: Path, start: Start) -> None:  # noqa: F811
    pytest.importorskip("flwr", reason="flwr, of the extra [flower], is not installed")
    clients = Clients(tmp_path, "flower", "accuracy", ZEROS)
    processes = {name: start(*clients.run(name, "app")) for name in NAMES[:2]}
    dies = start(*clients.run("cyd", "app"), at=["put", "state/attempt", 9])  # in the second of its rounds
    line = said(processes["ada"], "privacy:")
    assert "NONE: trained without differential privacy" in line
    assert ended(dies)[0] == -signal.SIGKILL
    processes["cyd"] = start(*clients.run("cyd", "app"))
    found = told([ended(process) for process in processes.values()])
    assert found[0]["metric"]["final"] > 0.95
    assert found[0]["metric"]["figure"] == "accuracy"
    assert set(load_file(the_models_are_one(clients, start))) == {"0", "1"}
    status, out, _ = ended(start("status", "--home", "ada/home"))
    assert status == 0 and "NONE: trained without differential privacy" in out
    status, out, _ = ended(start("ledger", "show", "--log", "site", "--home", "ada/home"))
    assert status == 0 and out.count("WITHOUT differential privacy, epsilon") >= 3
    assert ended(start("ledger", "export", "-o", "ada.json", "--home", "ada/home"))[0] == 0
    assert audit([str(tmp_path / "ada.json")]) == 0
    status, _, err = ended(start("join", "--data", "none.csv", "--home", "ada/home"))
    assert status == 2 and "P2P-TRAIN-104" in err


def test_three_monai_client_algos_train(tmp_path: Path, start: Start) -> None:  # noqa: F811
    pytest.importorskip("monai", reason="MONAI, of the extra [volumes], is not installed")
    clients = Clients(tmp_path, "monai", "accuracy")
    found = told([ended(process) for process in [start(*clients.run(name, "algo")) for name in NAMES]])
    assert found[1]["metric"]["final"] > 0.95
    assert set(load_file(the_models_are_one(clients, start))) == {"weight", "bias"}


def test_three_scikit_learn_models_train_and_one_with_other_settings_is_told(
    tmp_path: Path,
    start: Start,  # noqa: F811
) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra [sklearn], is not installed")
    clients = Clients(tmp_path, "sklearn", "score")
    found = told([ended(process) for process in [start(*clients.run(name, "site")) for name in NAMES]])
    assert found[2]["metric"]["final"] > 0.9
    assert set(load_file(the_models_are_one(clients, start))) == {"coef_", "intercept_"}
    status, out, err = ended(start(*clients.run("ada", "site", "--write-first", "new.safetensors")))
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["parameters"] == 31
    status, _, err = ended(start("run", "--flower", "client:site", "--home", "ada/home"))
    assert status == 2 and "P2P-TRAIN-105" in err
