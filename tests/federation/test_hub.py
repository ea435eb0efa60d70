"""`topology: hub` needs a hub that is a site which the others can dial, and nothing else may name one."""

from __future__ import annotations

import pytest

from p2pfl.cli.peers.create import task_lines
from p2pfl.errors import federation as leaves
from p2pfl.federation import Federation, draft
from p2pfl.keys import Identity
from p2pfl.roster import Address, Member

MEMBERS = [
    Member(name, Identity.generate().key, addresses)
    for name, addresses in (("mayo", (Address("10.0.0.1", 7443),)), ("charite", ()), ("st-olav", ()))
]


def drafted(*overrides: str) -> Federation:
    return Federation.parse(draft.peers_file("hearts", MEMBERS, task_lines(None), list(overrides)))


def test_a_hub_is_a_site_that_lists_an_address_and_goes_with_its_topology() -> None:
    assert (drafted().topology, drafted().hub) == ("mesh", None)
    assert drafted("topology=hub", "hub=mayo").hub == "mayo"


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (("topology=hub",), leaves.HubNotNamed),
        (("hub=mayo",), leaves.HubNotNamed),
        (("topology=hub", "hub=mayoo"), leaves.HubNotAMember),
        (("topology=hub", "hub=charite"), leaves.HubWithoutAddress),
    ],
)
def test_what_is_no_hub_is_refused_by_name(overrides: tuple[str, ...], error: type[leaves.HubNotNamed]) -> None:
    with pytest.raises(error):
        drafted(*overrides)
