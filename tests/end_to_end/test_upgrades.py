"""Versions side by side: of the software they work together, of the protocol they part by name."""

from __future__ import annotations

import sys

import pytest

from p2pfl import __version__
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Process, Sites

OTHER_SOFTWARE = "from p2pfl import _version; _version.__version__ = '9.9.9'"
OTHER_PROTOCOL = "from p2pfl.mesh import opening; opening.VERSION = 2"


def altered(sites: Sites, name: str, how: str, *arguments: object) -> Process:
    """`p2pfl sum` of a site whose program differs in one thing."""
    code = f"import sys\n{how}\nfrom p2pfl.cli.main import main\nmain(sys.argv[1:])"
    given = ["sum", "--peers", sites.peers, "--home", sites[name].home, "--stat", "sum", "--json", *arguments]
    process = Process(name, [sys.executable, "-c", code, *map(str, given)], None, sites.ends.put)
    sites.started.append(process)
    return process


def versions(sites: Sites, name: str) -> set[str]:
    return {str(one["version"]) for one in entries(sites[name], "site") if one["kind"] == "start"}


@pytest.mark.claim("FED-5")
def test_a_newer_release_of_the_same_protocol_sums_with_the_others(
    make: MakeSites,
) -> None:
    """Its log says which release it was."""
    sites = make(3)
    newer = altered(sites, "ada", OTHER_SOFTWARE, "--value", 1)
    for process in (newer, sites.sum("ben", 2), sites.sum("cyd", 3)):
        assert process.end().facts["value"] == "6.00", process.tail
    assert versions(sites, "ada") == {"9.9.9"}
    assert versions(sites, "ben") == {__version__}
    assert len(sites.roots()) == 1


@pytest.mark.claim("FED-5")
def test_another_protocol_is_refused_at_both_ends(make: MakeSites) -> None:
    """Both name both versions and the site that must upgrade."""
    sites = make(3)
    ada, ben = altered(sites, "ada", OTHER_PROTOCOL, "--value", 1), sites.sum("ben", 2)
    said = ben.line("P2P-MESH-023")
    assert "ada opens links in version 2, this site in version 1: this site must upgrade p2pfl first" in said
    said = ada.line("P2P-MESH-023")
    assert "ben opens links in version 1, this site in version 2: ben must upgrade p2pfl first" in said
