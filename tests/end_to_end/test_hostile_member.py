"""A member with a good key and bad intentions, over real links: named in every site log; the others get their sum."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from p2pfl import messages
from p2pfl.clocks import SYSTEM
from p2pfl.codec import facts
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Identity, digest
from p2pfl.mesh import LocalSite, Mesh
from p2pfl.mesh.framing import PING
from p2pfl.mesh.probe.wire import About
from p2pfl.messages import Envelope, Message, seal
from p2pfl.node.hello import Greetings, Standing
from p2pfl.node.pledge import pledge_of
from p2pfl.node.progress import LinkWentDown, Progress
from p2pfl.node.runs.results import SumResult
from p2pfl.node.site import SiteProcess
from p2pfl.peer import Peer
from p2pfl.peer.epoch import sums_run
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites
from tests.mesh.sites import QUICK, Watch
from tests.node.test_hello import Heads, Members

HONEST = ("ada", "ben", "cyd")
LIAR = "dot"


class Liar:
    """Dot's identity in a program that says hello as the rules say, and after that whatever it is told to."""

    def __init__(self, sites: Sites) -> None:
        self.federation = Federation.load(sites.peers)
        with Home.open(sites[LIAR].home, unlock=[KeyFile(sites[LIAR].key)], write=False) as home:
            self.identity: Identity = home.identity()
        roster, self.incarnation = self.federation.roster, os.urandom(16)
        standing = Standing(0, bytes(32), lambda size: bytes(32), "", lambda run: (0, 0), 1.0)
        greets = Greetings(
            SiteProcess(self.identity, LIAR, roster, self.incarnation, self.federation.digest, SYSTEM),
            pledge_of(self.federation),
            lambda: standing,
            Members(),
            Heads(),
            lambda error: None,
        )
        site = LocalSite.of(self.identity, LIAR, roster, SYSTEM, limits=QUICK)
        listen = roster[LIAR].addresses[0]
        self.mesh = Mesh(site, greets, About(), listen=listen, incarnation=self.incarnation)
        self.place = Envelope(sums_run(self.federation), 1, 1, 0, LIAR, self.incarnation)

    def letter(self, message: Message, **place: object) -> bytes:
        return seal(message, replace(self.place, **place), self.identity).wire  # type: ignore[arg-type]

    def nonsense(self) -> list[bytes]:
        """What the wire, the schema, the envelope and the table each refuse."""
        reveal, h = messages.Reveal(((LIAR, bytes(32)),)), bytes(32)
        return [
            b"\x91" * 2000,  # nested without end
            b"\xdd\xff\xff\xff\xff" + bytes(40),  # four thousand million values, announced
            os.urandom(1000),
            b"",
            self.letter(reveal),  # of a phase that has no place for it
            self.letter(reveal, epoch=2),
            self.letter(messages.Ready(h, h), run=digest("run", b"another")),
            self.letter(messages.Ready(h, h), round=0),
            self.letter(messages.Ready(h, h), sender="ada"),  # in another's name
            self.letter(messages.Certificate((), b"")),  # that decides nothing
            self.letter(messages.Handed((b"no letter",))),
            self.letter(messages.Evidence((self.letter(reveal),))),  # that proves nothing
            self.letter(messages.Want("words", (("ada", messages.Item.ROOT, 0),))),
            self.letter(messages.ModelPart(h, 1 << 50, 0, b"x")),
            self.letter(messages.Entries(0, 1 << 50, ((b"{}", ()),))),
            *(self.letter(messages.Changed(record, (("ada", bytes(64)),))) for record in self.changes()),
        ]

    def changes(self) -> list[bytes]:
        """Records of the next epoch, as far as that goes without the others' signatures."""
        before = {"before": self.federation.digest.hex(), "epoch": self.federation.roster.epoch + 1}
        return [b"", b"[" * 1000, facts(before), facts({**before, "recovered": 5}), facts({**before, "added": 5})]

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[None]:
        """Its links to all others stand; at the end they have acknowledged all that it said."""
        await self.mesh.start()
        watch = Watch(self.mesh)
        await watch.up(*HONEST)
        yield
        await watch.stop()

    async def flood(self, peer: str, flooded: set[str]) -> None:
        """Pings without end, until that peer has had enough; also over a new link, if that one ended otherwise."""
        while peer not in flooded:
            self.mesh._links[peer]._send_control(PING, 0)
            await asyncio.sleep(0)


async def summed(sites: Sites, name: str, value: int) -> SumResult:
    site = sites[name]
    async with Peer.join(sites.peers, home=site.home, unlock=[KeyFile(site.key)], linger_s=0.0) as peer:
        return await peer.sum(np.array([value]), patience_s=1.0)


@pytest.mark.claim("NET-7")
def test_a_member_that_says_nonsense_costs_the_others_no_sum(
    make: MakeSites,
) -> None:
    """Every site log names it: what it does to a site that is done with its sum is taken up in the next one."""
    sites = make(4)

    async def scene() -> list[list[SumResult]]:
        said, flooded = asyncio.Event(), set[str]()

        async def summed_twice(name: str, value: int) -> list[SumResult]:
            def seen(event: Progress) -> None:
                if isinstance(event, LinkWentDown) and (event.peer, event.reason) == (LIAR, "flooded"):
                    flooded.add(name)

            home, keys = sites[name].home, [KeyFile(sites[name].key)]
            async with Peer.join(sites.peers, home=home, unlock=keys, observer=seen, linger_s=0.0) as peer:
                first = await peer.sum(np.array([value]), patience_s=1.0)
                await said.wait()
                return [first, await peer.sum(np.array([value, value]), patience_s=1.0)]

        async with asyncio.timeout(PATIENCE_S):
            sums = [asyncio.create_task(summed_twice(name, 1 << k)) for k, name in enumerate(HONEST)]
            liar = Liar(sites)
            async with liar.linked():
                for _ in range(20):
                    for peer in HONEST:
                        for each in liar.nonsense():
                            await liar.mesh.send(peer, each)
                for peer in HONEST:
                    await liar.mesh.flushed(peer)
                    await liar.flood(peer, flooded)
                said.set()
                return await asyncio.gather(*sums)

    for results in asyncio.run(scene()):
        assert [(int(one.total[-1]), one.survivors) for one in results] == [(7, HONEST)] * 2
    for name in HONEST:
        breaches = [one for one in entries(sites[name], "site") if one["kind"] == "breach"]
        assert {one["peer"] for one in breaches} == {LIAR}
        assert {"P2P-ROUND-001", "P2P-ROUND-002", "P2P-MESH-061"} <= {one["code"] for one in breaches}
        assert len(breaches) < 40, "noted once for each rule and round, not once for each letter"
        sites.verified(name)


@pytest.mark.claim("LIAR-10")
@pytest.mark.parametrize("method", ["none", "nominate"])
def test_a_member_that_nominates_nonsense_ends_no_other_process_and_is_named(make: MakeSites, method: str) -> None:
    sites = make(4, "rounds=2", "privacy.max_epsilon=100", f"compression.method={method}")
    sites.site(LIAR, [{"train": 1}], nominates=b"no positions".hex())
    honest = [sites.site(name, [{"train": 1}], linger=PATIENCE_S) for name in HONEST]
    for process in honest:
        process.event("given")
    assert all(process.running for process in honest)  # they stay for the liar, which lacks it
    sites.close()
    for name in HONEST:
        rounds = [one for one in entries(sites[name], "federation") if one["kind"] == "round"]
        assert [one["survivors"] for one in rounds if "purpose" not in one][:2] == [list(HONEST)] * 2
        breaches = [one for one in entries(sites[name], "site") if one["kind"] == "breach"]
        assert {(one["peer"], one["code"]) for one in breaches} == {(LIAR, "P2P-TRAIN-040")}
        sites.verified(name)
