"""Sites on this machine's loopback: identities, a roster with free ports, meshes that record their events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.x509.oid import NameOID

from p2pfl.clocks import Clocks
from p2pfl.errors.paths import NoWay
from p2pfl.keys import Identity
from p2pfl.mesh import Delivered, Limits, LinkOpened, LocalSite, Mesh, MeshEvent, Refused
from p2pfl.mesh.certificates import Leaf
from p2pfl.mesh.probe.wire import About
from p2pfl.mesh.proxy import Proxy
from p2pfl.roster import Address, Member, Roster
from tests.ports import free_ports

OVERALL_S = 300.0  # a test that hangs fails, whatever it waits for
NOTHING = About()
QUICK = Limits(dial_first_s=0.01, dial_most_s=0.05, flush_s=5.0, relay_after_s=0.2, retake_s=0.2)


def free_address() -> Address:
    return Address("127.0.0.1", free_ports(1)[0])


@dataclass
class Greetings:
    """Says its own name and the nonce, and lets everyone in unless told otherwise."""

    name: str
    refusal: Exception | None = None
    shut_out: dict[str, Exception] = field(default_factory=dict)  # by peer: why it is not admitted
    made: list[bytes] = field(default_factory=list)

    def greeting(self, peer: str, nonce: bytes) -> bytes:
        self.made.append(nonce)
        return f"{self.name} to {peer}: ".encode() + nonce

    def admit(self, peer: str) -> None:
        if peer in self.shut_out:
            raise self.shut_out[peer]

    async def check_greeting(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        assert greeting == f"{peer} to {self.name}: ".encode() + nonce


class Sites:
    """Identities and a roster; `mesh(name)` makes that site's mesh."""

    def __init__(self, *names: str) -> None:
        self.identities = {name: Identity.generate() for name in names}
        self.addresses = {name: free_address() for name in names}
        self.roster = Roster(
            1, tuple(Member(name, self.identities[name].key, (self.addresses[name],)) for name in names)
        )

    def reached_at(self, name: str, address: Address | None) -> Roster:
        """The roster in which `name` is dialled at another address, or not at all."""
        addresses = () if address is None else (address,)
        return Roster(
            1,
            tuple(
                replace(member, addresses=addresses) if member.name == name else member
                for member in self.roster.members
            ),
        )

    def unreached(self, *names: str) -> Roster:
        """The roster in which these list no address: they dial out only."""
        return Roster(
            1,
            tuple(replace(member, addresses=()) if member.name in names else member for member in self.roster.members),
        )

    def mesh(
        self,
        name: str,
        *,
        identity: Identity | None = None,
        roster: Roster | None = None,
        listens: bool = True,
        incarnation: bytes | None = None,
        greetings: Greetings | None = None,
        draw: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = time.time,
        limits: Limits = QUICK,
        proxy: Proxy | None = None,
        hub: str | None = None,
        about: About = NOTHING,
    ) -> Mesh:
        clocks = Clocks(time.monotonic, wall, draw)
        held = roster or self.roster
        site = LocalSite.of(identity or self.identities[name], name, held, clocks, limits=limits, proxy=proxy)
        return Mesh(
            site,
            greetings or Greetings(name),
            about,
            listen=self.addresses[name] if listens else None,
            incarnation=incarnation or os.urandom(16),
            hub=hub,
        )


def respelt(leaf: Leaf, identity: Identity, name: bytes) -> Leaf:
    """The same leaf, for the same key pair, its common name this DER: what no library would build."""
    found = x509.load_pem_x509_certificate(leaf.certificate)
    old = str(found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value).encode()
    assert len(name) == len(old) + 2
    signed = found.tbs_certificate_bytes.replace(b"\x0c" + bytes([len(old)]) + old, name)
    held = signed + bytes.fromhex("300506032b6570") + b"\x03\x41\x00" + identity.signer.sign(signed)  # Ed25519
    pem = ssl.DER_cert_to_PEM_cert(b"\x30\x82" + len(held).to_bytes(2, "big") + held)
    return replace(leaf, certificate=pem.encode())


async def sends_at_once(mesh: Mesh, peer: str, payload: bytes) -> bool:
    """True when the peer's queue had room for the payload; else nothing is queued."""
    sending = asyncio.ensure_future(mesh.send(peer, payload))
    await asyncio.wait([sending], timeout=0)
    return not sending.cancel()


class Watch:
    """Reads a mesh's events in a task, and lets a test wait for the one it needs."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.seen: list[MeshEvent] = []
        self._news = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        async for event in self.mesh.events():
            self.seen.append(event)
            if isinstance(event, Delivered):
                self.mesh.payload_taken(event.peer, len(event.payload))
            self._news.set()

    async def until(self, holds: Callable[[list[MeshEvent]], bool]) -> list[MeshEvent]:
        while not holds(self.seen):
            if self._task.done():
                self._task.result()
                raise AssertionError(f"the events ended: {self.seen}")
            self._news.clear()
            await self._news.wait()
        return self.seen

    @property
    def told(self) -> list[MeshEvent]:
        """What happened, less that a relay was looked for in vain: a fraction of a second says whether it was."""
        return [event for event in self.seen if not isinstance(getattr(event, "error", None), NoWay)]

    async def up(self, *peers: str) -> None:
        await self.until(lambda _: all(self.mesh.links()[peer].state == "up" for peer in peers))

    async def linked(self, peer: str, times: int) -> None:
        await self.until(lambda _: len(self.ups(peer)) >= times)

    async def payloads(self, peer: str, count: int) -> list[bytes]:
        await self.until(lambda _: len(self.taken(peer)) >= count)
        return self.taken(peer)

    def taken(self, peer: str) -> list[bytes]:
        return [bytes(event.payload) for event in self.seen if isinstance(event, Delivered) and event.peer == peer]

    def ups(self, peer: str) -> list[LinkOpened]:
        return [event for event in self.seen if isinstance(event, LinkOpened) and event.peer == peer]

    async def refusal(self, code: str) -> Refused:
        def refused(seen: list[MeshEvent]) -> list[Refused]:
            return [event for event in seen if isinstance(event, Refused) and event.error.code == code]

        await self.until(lambda seen: bool(refused(seen)))
        return refused(self.seen)[0]

    async def stop(self) -> None:
        await self.mesh.stop()
        await self._task


@contextlib.asynccontextmanager
async def running(*meshes: Mesh) -> AsyncIterator[list[Watch]]:
    """Starts meshes, bounds the test's whole time, and stops what still runs."""
    async with asyncio.timeout(OVERALL_S):
        watches = []
        try:
            for mesh in meshes:
                await mesh.start()
                watches.append(Watch(mesh))
            yield watches
        finally:
            for watch in watches:
                await watch.mesh.stop(flush_s=0.0)
