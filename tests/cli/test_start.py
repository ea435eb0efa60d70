"""How a verb starts: without PyTorch where none is needed, and with a word of it where it is."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.cli.sites import Sites, Start, ended, said

HEAVY = ("torch", "opacus", "scipy", "pandas", "safetensors")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    return Sites(tmp_path_factory.mktemp("start"), count=3)


def loaded(sites: Sites, *arguments: str) -> set[str]:
    """Top-level modules that the verb has loaded when it ends."""
    script = (
        "import sys; from p2pfl.cli.main import run; status = run(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}); sys.exit(status > 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=sites.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "verb",
    [
        "peers fingerprint --peers peers.yaml",
        "peers diff peers.yaml",
        "status --home HOME",
        "ledger verify --home HOME",
        "ledger show --home HOME",
        "ledger evidence --home HOME",
        "doctor --home HOME --wait 0.01",
    ],
)
def test_a_verb_that_computes_nothing_loads_neither_torch_nor_numpy(sites: Sites, verb: str) -> None:
    found = loaded(sites, *verb.replace("HOME", f"{sites.names[0]}/home").split())
    assert not found & {*HEAVY, "numpy"}


def test_showing_peers_loads_no_torch(sites: Sites) -> None:
    assert not loaded(sites, "peers", "show", "peers.yaml") & {*HEAVY}


def test_a_sum_loads_no_torch(sites: Sites) -> None:
    found = loaded(sites, "sum", *sites.common(sites.names[0]), "--value", "1", "--wait", "0.1")
    assert not found & {*HEAVY}
    assert "numpy" in found


def test_a_joining_site_loads_no_torch_in_the_process_that_has_its_keys(sites: Sites) -> None:
    found = loaded(sites, *sites.join(sites.names[1]), "--wait", "0.1")
    assert not found & {"torch", "opacus", "pandas"}
    assert "numpy" in found


@pytest.mark.parametrize(
    ("option", "code"), [("--log=no/such/folder/log", "P2P-USE-030"), ("--metrics=PORT", "P2P-USE-032")]
)
def test_a_check_tries_the_log_and_the_metrics(sites: Sites, start: Start, option: str, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        option = option.replace("PORT", str(taken.getsockname()[1]))
        status, _, err = ended(start(*sites.join(sites.names[0], "--check", "--wait", "1", option)))
    assert f"error {code}: " in err
    assert status in (1, 2)


def test_a_verb_that_needs_torch_says_so_before_it_loads_it(sites: Sites, start: Start) -> None:
    assert said(start(*sites.join(sites.names[0])), "") == "loading PyTorch\n"
