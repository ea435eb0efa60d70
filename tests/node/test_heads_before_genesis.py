"""Two sites are linked before the third has come: what they say about their heads waits for no genesis."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from p2pfl.clocks import SYSTEM
from p2pfl.federation import Federation, draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.node.node import Node
from p2pfl.node.options import NodeOptions
from p2pfl.node.progress import unseen
from p2pfl.roster import Address
from tests.federation.changes import member
from tests.federation.sample import TASK
from tests.mesh.sites import OVERALL_S, free_address

NOT_BEGUN: Any = None  # no run is reached before the genesis


@pytest.mark.claim("LEDGER-11")
def test_sites_cosign_each_others_heads_before_the_last_site_has_come(tmp_path: Path) -> None:
    """A head is shown once on a link: it would be shown to no one again while that link stands."""

    async def scene(homes: dict[str, Home], federation: Federation, addresses: dict[str, Address]) -> None:
        nodes = {
            name: Node(home, federation, NodeOptions(listen=addresses[name]), unseen, SYSTEM)
            for name, home in homes.items()
        }
        ada, ben = nodes.values()
        async with asyncio.timeout(OVERALL_S):
            for node in nodes.values():
                await node.start()
            waiting = [asyncio.create_task(node._genesis(NOT_BEGUN)) for node in nodes.values()]
            while not (held(ada, ben) or ada._unknown_runs._held or ben._unknown_runs._held):
                await asyncio.sleep(0)
            assert held(ada, ben)
            assert not len(ada.logs.federation)
            for task in waiting:
                task.cancel()
            for node in nodes.values():
                await node.abort()

    def held(ada: Node, ben: Node) -> bool:
        """Each has the other's cosignature over its newest head."""
        return all(
            (head := one._heads.ours(other.name)) is not None and head.size == len(one.logs.site)
            for one, other in ((ada, ben), (ben, ada))
        )

    with ExitStack() as open_homes:
        addresses = {name: free_address() for name in ("ada", "ben")}
        homes = {
            name: open_homes.enter_context(Home.create(tmp_path / name, name, [KeyFile(tmp_path / f"{name}.key")]))
            for name in addresses
        }
        members = [Card.sign(home.identity(), name, [addresses[name]]).member for name, home in homes.items()]
        federation = Federation.parse(draft.peers_file("trial", [*members, member("eve")], TASK))
        asyncio.run(scene(homes, federation, addresses))
