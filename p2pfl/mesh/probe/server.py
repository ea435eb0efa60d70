"""The answering end of a probe: what a member may ask of this site, and how much that may cost.

Each member is bounded: probes at a time, questions and seconds of one probe, and bytes, which come from a budget that
refills slowly. Nothing here waits for a link, and no link waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import HandshakeUnfinished, MalformedStream, NotTls, PlainHttp, TlsFailed
from p2pfl.errors.probe import ProbesTooOften
from p2pfl.mesh import opening
from p2pfl.mesh.probe import wire
from p2pfl.mesh.probe.handshake import trial_handshake
from p2pfl.mesh.probe.rendezvous import Rendezvous, decode_requests, encode_requests
from p2pfl.mesh.probe.wire import About, Dialed, PeerFacts
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

BUDGET_BYTES: Final = 64 << 20  # of one member: some eight runs of doctor at once
REFILL_BYTES_PER_S: Final = 64 << 10  # and one every two minutes
PROBE_BYTES: Final = 256 << 10  # charge for a probe: handshake and questions
DIAL_BYTES: Final = 2 << 20  # charge for DIAL: few bytes, but connections to the member's addresses
GRANT_BYTES: Final = 16 << 20  # most bytes of FILL in one probe
QUESTIONS: Final = 1024  # most of one probe
SERVED_S: Final = 60.0  # longest probe
DIALING_S: Final = 12.0  # longest trial handshake for DIAL
AT_ONCE: Final = 2  # probes of one member; above it the oldest gives way: its connection may have died
ZEROS: Final = bytes(wire.FILL_BYTES)
FOREIGN: Final = (NotTls, PlainHttp, TlsFailed)  # errors whose evidence is bytes of another service


def full_budget(now: float) -> TokenBucket:
    """Bytes that a member may still cost this site."""
    return TokenBucket(BUDGET_BYTES, REFILL_BYTES_PER_S, now)


class ProbeServer:
    """Serves the probes of members, for as long as its process listens."""

    def __init__(self, site: LocalSite, about: About, rendezvous: Rendezvous) -> None:
        self._site, self._about, self._rendezvous = site, about, rendezvous
        self._budgets: dict[str, TokenBucket] = {}
        self._serving: dict[str, list[asyncio.Task[None]]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no probe is being served."""
        await self._idle.wait()

    async def serve(self, tunnel: Tunnel, peer: str) -> bool:
        """Serve one probe to its end; False when it only asked for calls. Closing the tunnel is left to the caller.

        Raises MalformedStream, ProbesTooOften.
        """
        now = self._site.clocks.now()
        budget = self._budgets.setdefault(peer, full_budget(now))
        if not budget.try_spend(now, PROBE_BYTES):
            raise _too_often(self._site.name, peer)
        serving = self._serving.setdefault(peer, [])
        session = _Session(self._site, self._about, self._rendezvous, tunnel, peer, budget)
        work = asyncio.get_running_loop().create_task(self._answer_all(tunnel, peer, session))
        serving.append(work)
        self._idle.clear()
        if len(serving) > AT_ONCE:
            serving[0].cancel()
        try:
            # A caller that vanishes or is too slow is its own affair: nothing of this site depends on a probe.
            with contextlib.suppress(OSError, opening.Duplicate):
                await asyncio.wait({work})
                if not work.cancelled():
                    work.result()
        finally:
            work.cancel()
            serving.remove(work)
            if not any(self._serving.values()):
                self._idle.set()
        await tunnel.close_gently()
        return not session.asked_for_calls

    async def _answer_all(self, tunnel: Tunnel, peer: str, session: _Session) -> None:
        async with asyncio.timeout(SERVED_S):
            facts = PeerFacts.of(self._about, session.grant_left)
            await opening.send_message(tunnel, wire.FACTS, facts.encode())
            for _ in range(QUESTIONS):
                kind, body = await opening.receive_message(tunnel, peer, wire.QUESTIONS)
                await session.answers[kind](body)
        raise _too_often(self._site.name, peer)


def _too_often(me: str, peer: str) -> ProbesTooOften:
    # Always the same words, so that the refusal is reported once.
    return ProbesTooOften(peer=me, evidence=f"asked by {peer}")


class _Session:
    """One probe: the answer to each kind of question, and the bytes of FILL that are left of its grant."""

    def __init__(
        self, site: LocalSite, about: About, rendezvous: Rendezvous, tunnel: Tunnel, peer: str, budget: TokenBucket
    ) -> None:
        self._site, self._about, self._tunnel, self._peer = site, about, tunnel, peer
        self._rendezvous, self._budget = rendezvous, budget
        self.grant_left = min(GRANT_BYTES, int(budget.tokens(site.clocks.now())))
        self.asked_for_calls = False
        self._once = {wire.DIAL, wire.FILE}
        self.answers: dict[int, Callable[[bytes], Awaitable[None]]] = {
            wire.PING: self._ping,
            wire.FILL: self._fill,
            wire.WANT: self._want,
            wire.DIAL: self._dial,
            wire.FILE: self._file,
            wire.MEET: self._meet,
        }

    async def _ping(self, body: bytes) -> None:
        stamp = wire.decode_ping(self._peer, body)
        await opening.send_message(self._tunnel, wire.PONG, wire.encode_pong(stamp, self._site.clocks.wall()))

    async def _fill(self, body: bytes) -> None:
        self._charge_fill(len(body))
        await asyncio.sleep(0)  # a fast sender must not keep the loop from the links

    async def _want(self, body: bytes) -> None:
        total, piece = wire.decode_want(self._peer, body)
        self._charge_fill(total)
        while total:
            count = min(piece, total)
            await opening.send_message(self._tunnel, wire.FILL, ZEROS[:count])
            await asyncio.sleep(0)
            total -= count

    async def _dial(self, body: bytes) -> None:
        """Dial only where this site's own peers.yaml lists the asking member: nobody can point it elsewhere."""
        self._only_once(wire.DIAL)
        self._charge(DIAL_BYTES)
        listed = self._site.roster[self._peer].addresses
        met = await asyncio.gather(*(dial_back(self._site, self._peer, address) for address in listed))
        await opening.send_message(self._tunnel, wire.DIALED, wire.encode_dialed(met))

    async def _file(self, body: bytes) -> None:
        self._only_once(wire.FILE)
        await opening.send_message(self._tunnel, wire.FILED, self._about.peers_file[: wire.FILE_BYTES])

    async def _meet(self, body: bytes) -> None:
        """Grant calls between members alone, and only those that both ends ask for."""
        self.asked_for_calls = True
        granted = self._rendezvous.grant(self._peer, decode_requests(self._peer, body))
        self._charge(len(granted) * PROBE_BYTES)
        await opening.send_message(self._tunnel, wire.MET, encode_requests(granted))

    def _only_once(self, kind: int) -> None:
        if kind not in self._once:
            raise MalformedStream(peer=self._peer, evidence=f"probe message {kind} a second time")
        self._once.remove(kind)

    def _charge_fill(self, count: int) -> None:
        """Charge bytes of FILL, to the budget and to this probe's grant."""
        self._charge(count, within=self.grant_left)
        self.grant_left -= count

    def _charge(self, count: int, within: int = BUDGET_BYTES) -> None:
        if count > within or not self._budget.try_spend(self._site.clocks.now(), count):
            raise _too_often(self._site.name, self._peer)


async def dial_back(site: LocalSite, peer: str, address: Address) -> Dialed:
    """What a trial handshake with `peer` at `address` met."""
    try:
        async with asyncio.timeout(DIALING_S):
            admitted = await trial_handshake(site, peer, address)
    except P2PFLError as error:
        # A name that a member lists may lead into this site's own network: what a service there says is not told.
        evidence = "what it says is not told" if isinstance(error, FOREIGN) else error.evidence
        return Dialed(str(address), 0, error.code, error.happened, evidence)
    except TimeoutError:
        return Dialed(str(address), 0, HandshakeUnfinished.code, "The handshake did not end.", f"{DIALING_S:.0f} s")
    await admitted.dismiss()
    return Dialed(str(address), round(admitted.admitted_s * 1000))
