"""The answering end of a probe: what a member may ask of this site, and how much that may cost.

Bounded for each member: probes at a time, questions and seconds of one probe, and bytes, which come from a purse that
fills slowly. Nothing here waits for a link or is waited for by one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import HandshakeUnfinished, MalformedStream, NotTls, PlainHttp, TlsFailed
from p2pfl.errors.probe import ProbesTooOften
from p2pfl.mesh import opening, probe
from p2pfl.mesh.handshake import knock
from p2pfl.mesh.probe import About, Dialed, PeerFacts
from p2pfl.mesh.rendezvous import Rendezvous, read_wishes, wishes
from p2pfl.mesh.site import LocalSite
from p2pfl.mesh.token_bucket import TokenBucket
from p2pfl.mesh.tunnel import Tunnel
from p2pfl.roster import Address

PURSE_BYTES: Final = 64 << 20  # of one member: some eight runs of doctor at once
REFILL_BYTES_PER_S: Final = 64 << 10  # and one every two minutes
PROBE_BYTES: Final = 256 << 10  # what a probe costs by itself: handshake and questions
DIAL_BYTES: Final = 2 << 20  # what it costs to have oneself dialled: few bytes, and a call to somebody
GRANT_BYTES: Final = 16 << 20  # of one probe
QUESTIONS: Final = 1024
SERVED_S: Final = 60.0
DIALING_S: Final = 12.0
AT_ONCE: Final = 2  # probes of one member; above it the oldest gives way, as it may be a connection that died
ZEROS: Final = bytes(probe.FILL_BYTES)
FOREIGN: Final = (NotTls, PlainHttp, TlsFailed)  # errors whose evidence are bytes of whatever is there


def purse(now: float) -> TokenBucket:
    """Bytes that a member may still cost."""
    return TokenBucket(PURSE_BYTES, REFILL_BYTES_PER_S, now)


class ProbeServer:
    """Serves the probes of members; of one process, for as long as it listens."""

    def __init__(self, caller: LocalSite, about: About, appointments: Rendezvous) -> None:
        self._caller, self._about, self._appointments = caller, about, appointments
        self._purses: dict[str, TokenBucket] = {}
        self._serving: dict[str, list[asyncio.Task[None]]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until no probe is being served."""
        await self._idle.wait()

    async def answer(self, tunnel: Tunnel, peer: str) -> bool:
        """Serve one probe to its end; the caller closes the tunnel. False when it only asked to be carried.

        Raises MalformedStream, ProbesTooOften.
        """
        now = self._caller.clocks.now()
        held = self._purses.setdefault(peer, purse(now))
        if not held.take(now, PROBE_BYTES):
            raise self._too_often(peer)
        serving = self._serving.setdefault(peer, [])
        visit = _Visit(self._caller, self._about, self._appointments, tunnel, peer, held)
        work = asyncio.get_running_loop().create_task(self._serve(tunnel, peer, visit))
        serving.append(work)
        self._idle.clear()
        if len(serving) > AT_ONCE:
            serving[0].cancel()
        try:
            # A caller that vanishes, or is too slow, is its own affair: nothing of this site hangs on a probe.
            with contextlib.suppress(OSError, opening.Duplicate):
                await asyncio.wait({work})
                if not work.cancelled():
                    work.result()
        finally:
            work.cancel()
            serving.remove(work)
            if not any(self._serving.values()):
                self._idle.set()
        await tunnel.part()
        return not visit.met

    async def _serve(self, tunnel: Tunnel, peer: str, visit: _Visit) -> None:
        async with asyncio.timeout(SERVED_S):
            await opening.say(tunnel, probe.FACTS, PeerFacts.of(self._about, visit.left).encode())
            for _ in range(QUESTIONS):
                kind, body = await opening.hear(tunnel, peer, probe.QUESTIONS)
                await visit.answers[kind](body)
        raise self._too_often(peer)

    def _too_often(self, peer: str) -> ProbesTooOften:
        # Always the same words: what is no news is told once.
        return ProbesTooOften(peer=self._caller.name, evidence=f"asked by {peer}")


class _Visit:
    """One probe: each question's answer. `left`: bytes of FILL; `met`: it asked for calls."""

    def __init__(
        self, caller: LocalSite, about: About, appointments: Rendezvous, tunnel: Tunnel, peer: str, purse: TokenBucket
    ) -> None:
        self._caller, self._about, self._tunnel, self._peer = caller, about, tunnel, peer
        self._appointments, self._purse = appointments, purse
        self.left, self.met = min(GRANT_BYTES, int(purse.left(caller.clocks.now()))), False
        self._once = {probe.DIAL, probe.FILE}
        self.answers: dict[int, Callable[[bytes], Awaitable[None]]] = {
            probe.PING: self._ping,
            probe.FILL: self._fill,
            probe.WANT: self._want,
            probe.DIAL: self._dial,
            probe.FILE: self._file,
            probe.MEET: self._meet,
        }

    async def _ping(self, body: bytes) -> None:
        stamp = probe.read_ping(self._peer, body)
        await opening.say(self._tunnel, probe.PONG, probe.pong(stamp, self._caller.clocks.wall()))

    async def _fill(self, body: bytes) -> None:
        self._spend(len(body))
        await asyncio.sleep(0)  # what comes fast must not keep the loop from the links

    async def _want(self, body: bytes) -> None:
        total, piece = probe.read_want(self._peer, body)
        self._spend(total)
        while total:
            count = min(piece, total)
            await opening.say(self._tunnel, probe.FILL, ZEROS[:count])
            await asyncio.sleep(0)
            total -= count

    async def _dial(self, body: bytes) -> None:
        """Only where this site's own peers.yaml lists the member that asks: nobody can point it elsewhere."""
        self._only_once(probe.DIAL)
        self._pay(DIAL_BYTES)
        listed = self._caller.roster[self._peer].addresses
        found = await asyncio.gather(*(dial_back(self._caller, self._peer, address) for address in listed))
        await opening.say(self._tunnel, probe.DIALED, probe.dialed(found))

    async def _file(self, body: bytes) -> None:
        self._only_once(probe.FILE)
        await opening.say(self._tunnel, probe.FILED, self._about.peers_file[: probe.FILE_BYTES])

    async def _meet(self, body: bytes) -> None:
        """Members alone are named, and carried to each other only when both ask for it."""
        self.met = True
        given = self._appointments.asked(self._peer, read_wishes(self._peer, body))
        self._pay(len(given) * PROBE_BYTES)
        await opening.say(self._tunnel, probe.MET, wishes(given))

    def _only_once(self, kind: int) -> None:
        if kind not in self._once:
            raise MalformedStream(peer=self._peer, evidence=f"probe message {kind} a second time")
        self._once.remove(kind)

    def _spend(self, count: int) -> None:
        """Bytes of FILL, of which a probe has its grant."""
        self._pay(count, within=self.left)
        self.left -= count

    def _pay(self, count: int, within: int = PURSE_BYTES) -> None:
        if count > within or not self._purse.take(self._caller.clocks.now(), count):
            raise ProbesTooOften(peer=self._caller.name, evidence=f"asked by {self._peer}")


async def dial_back(caller: LocalSite, peer: str, address: Address) -> Dialed:
    """Knock at `address` of `peer`, and say what was met."""
    try:
        async with asyncio.timeout(DIALING_S):
            admitted = await knock(caller, peer, address)
    except P2PFLError as error:
        # A name that a member lists may lead into this site's own network: what a service there says is not told.
        said = "what it says is not told" if isinstance(error, FOREIGN) else error.evidence
        return Dialed(str(address), 0, error.code, error.happened, said)
    except TimeoutError:
        return Dialed(str(address), 0, HandshakeUnfinished.code, "The handshake did not end.", f"{DIALING_S:.0f} s")
    await admitted.part()
    return Dialed(str(address), round(admitted.admitted_s * 1000))
