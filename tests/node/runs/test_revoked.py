"""The rounds of a node know with whom this site has parted: before they begin, and while they go on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from p2pfl.clocks import Clocks
from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation, draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.node.node import Node
from p2pfl.node.options import NodeOptions
from p2pfl.node.revocations import REVOKED, packed
from p2pfl.roster import Address
from tests.federation.changes import NAMES, member
from tests.federation.sample import TASK


def test_a_key_that_is_revoked_while_a_round_goes_on_is_known_to_it(tmp_path: Path) -> None:
    async def revoked(home: Home, federation: Federation) -> None:
        node = Node(
            home, federation, NodeOptions(), lambda progress: None, Clocks(lambda: 0.0, lambda: 0.0, os.urandom)
        )
        run, cut = node._maker.make(bytes(32), ()), asyncio.Queue[str]()
        assert run.peers.parted == set()
        home.replace(REVOKED, packed({federation.roster["eve"].key: 1}))

        def ends(peer: str, error: P2PFLError) -> None:
            cut.put_nowait(peer)

        watching = asyncio.create_task(node.changes.watch(ends))
        assert await cut.get() == "eve"
        watching.cancel()
        assert run.peers.parted == node._maker.make(bytes(32), ()).peers.parted == {"eve"}

    with Home.create(tmp_path / "ada", "ada", [KeyFile(tmp_path / "ada.key")]) as home:
        card = Card.sign(home.identity(), "ada", [Address("10.0.0.1", 7443)])
        members = [card.member, *(member(name) for name in NAMES if name != "ada")]
        federation = Federation.parse(draft.peers_file("trial", members, TASK))
        asyncio.run(revoked(home, federation))
