"""The first words inside TLS, before any byte of ZMTP: who is this process, where do we resume, do both ends agree.

    dialer                              acceptor
      HELLO ───────────────────────────►            version, incarnation, nonce, where to resume
            ◄─────────────────────────── HELLO
      GREETING ────────────────────────►            the owner's words, made for the joint nonce
            ◄─────────────────────────── GREETING
            ◄─────────────────────────── ACCEPT     or REFUSE(code, text), or DUPLICATE
      ACCEPT ──────────────────────────►            or REFUSE, or DUPLICATE

A link is up when both ACCEPTs were heard: a TLS 1.3 client believes that its handshake is done before the server has
refused it. Both sites may dial at once. The one whose name sorts first keeps the first of the two connections that
reaches its decision, and says DUPLICATE on the other; the other end has no say, so exactly one survives.

A caller that wants no link says PROBE in place of its HELLO: probe/wire.py goes on from there.

Each message: kind u8, length u32, body. HELLO's body: version u16, incarnation 16, nonce 32, session 16, expected u64.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.errors.mesh import MalformedStream, OpeningVersion, RefusedThere
from p2pfl.keys import digest
from p2pfl.mesh.events import Greeter, TlsFacts
from p2pfl.mesh.framing import TAG_BYTES
from p2pfl.mesh.tls_errors import printable
from p2pfl.mesh.tunnel import Tunnel, Wasteful

VERSION: Final = 1
INCARNATION_BYTES: Final = 16
NONCE_BYTES: Final = 32
NOBODY: Final = bytes(INCARNATION_BYTES)  # in place of an incarnation: none is known
SESSION_BYTES: Final = 16
NO_SESSION: Final = bytes(SESSION_BYTES)  # in place of a session: none has begun
REFUSAL_BYTES: Final = 4096
HELLO_BYTES: Final = 1024  # of a later version: enough to read its number

LOCAL_FIELDS: Final = ("path", "home")  # fields of an error that say where something lies at this site

HELLO: Final = 1
GREETING: Final = 2
ACCEPT: Final = 3
REFUSE: Final = 4
DUPLICATE: Final = 5
PROBE: Final = 6

_PREFIX: Final = struct.Struct("!BI")
_HELLO: Final = struct.Struct("!H16s32s16sQ")


class Duplicate(Exception):
    """The pair has a link already, or is about to have one; this connection gives way."""


class Superseded(Exception):
    """While this connection was being opened another one became the pair's link: its hello is no longer true."""


class Probed(Exception):
    """The caller wants no link but asks how one would be."""


@dataclass(frozen=True, slots=True)
class LinkHello:
    """One process's HELLO: its frames with the other end are those of `session`, and it expects number `expected`."""

    incarnation: bytes
    nonce: bytes
    session: bytes
    expected: int

    def encode(self) -> bytes:
        return _HELLO.pack(VERSION, self.incarnation, self.nonce, self.session, self.expected)


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """What an opening established: both hellos, the far end's greeting, the joint nonce.

    tag       marks the link's frames
    session   in which both ends count from 0, unless their hellos name one and the same
    """

    ours: LinkHello
    hello: LinkHello
    greeting: bytes
    nonce: bytes
    tag: bytes
    session: bytes
    facts: TlsFacts


@dataclass(frozen=True, slots=True)
class Side:
    """This end's part in an opening: its name, the peer's, its hello, its owner's greeting.

    choose    called once, at this end's decision: whether this connection may be the pair's link
    """

    name: str
    peer: str
    hello: LinkHello
    greeter: Greeter
    choose: Callable[[LinkHello], bool]


async def open_link(tunnel: Tunnel, side: Side) -> OpenedLink:
    """Agree with the far end of an authenticated tunnel.

    Raises Duplicate, Probed; RefusedThere, or what the greeter raised; MalformedStream, OpeningVersion;
    ConnectionError.
    """
    await send_hello(tunnel, side.hello)
    theirs = await receive_hello(tunnel, side.peer)
    nonce = _joint_nonce(side, theirs)
    ours = side.greeter.greeting(side.peer, nonce)
    # Both greetings may exceed the sockets' buffers: two ends that only sent would wait for each other.
    sending = asyncio.ensure_future(send_message(tunnel, GREETING, ours))
    try:
        greeting = await _receive_body(tunnel, side.peer, GREETING)
        await sending
    finally:
        sending.cancel()
    await side.greeter.check_greeting(side.peer, greeting, nonce)
    if tunnel.dialed:
        await _receive_body(tunnel, side.peer, ACCEPT)
    if not side.choose(theirs):
        await send_message(tunnel, DUPLICATE)
        raise Duplicate
    await send_message(tunnel, ACCEPT)
    if not tunnel.dialed:
        await _receive_body(tunnel, side.peer, ACCEPT)
    tag, session = digest("link-tag", nonce)[:TAG_BYTES], digest("link-session", nonce)[:SESSION_BYTES]
    return OpenedLink(side.hello, theirs, greeting, nonce, tag, session, tunnel.facts)


async def refuse(tunnel: Tunnel, error: P2PFLError) -> None:
    """Tell the far end why it is refused, so that both sides can show the reason."""
    text, evidence = error.happened, error.evidence
    if any(name in error.fields for name in LOCAL_FIELDS):
        text, evidence = "it has a fault of its own", "none"
    said = {"code": error.code, "text": printable(text, 300), "evidence": printable(evidence, 300)}
    await send_message(tunnel, REFUSE, json.dumps(said, ensure_ascii=False).encode())


async def refuse_and_close(tunnel: Tunnel, error: P2PFLError) -> None:
    """Tell the far end of `error` where it can hear it and has not said it itself; then close the tunnel."""
    with contextlib.suppress(OSError):
        if tunnel.established and tunnel.speaks_p2pfl and not isinstance(error, RefusedThere):
            await refuse(tunnel, error)
    await tunnel.close_gently()


async def send_hello(tunnel: Tunnel, hello: LinkHello) -> None:
    """Say the first words of either end."""
    await send_message(tunnel, HELLO, hello.encode())


async def receive_hello(tunnel: Tunnel, peer: str) -> LinkHello:
    """The far end's first words. Raises Duplicate, Probed; RefusedThere, MalformedStream, OpeningVersion."""
    wanted = {HELLO: HELLO_BYTES} if tunnel.dialed else {HELLO: HELLO_BYTES, PROBE: 0}
    kind, body = await receive_message(tunnel, peer, wanted)
    if kind == PROBE:
        raise Probed
    return _decode_hello(peer, body)


async def send_message(tunnel: Tunnel, kind: int, body: bytes = b"") -> None:
    """Send one message, of the opening or of a probe."""
    await tunnel.write(_PREFIX.pack(kind, len(body)) + body)


async def receive_message(tunnel: Tunnel, peer: str, wanted: Mapping[int, int]) -> tuple[int, bytes]:
    """The next message, as (kind, body); `wanted`: the kinds that may come, each with its longest body.

    Raises Duplicate, RefusedThere; MalformedStream, before a body that is too long is read.
    """
    try:
        return await _receive_wanted(tunnel, peer, wanted)
    except Wasteful as error:
        raise MalformedStream(peer=peer, evidence=str(error)) from None


async def _receive_wanted(tunnel: Tunnel, peer: str, wanted: Mapping[int, int]) -> tuple[int, bytes]:
    kind, size = _PREFIX.unpack(await tunnel.read_exactly(_PREFIX.size))
    most = {DUPLICATE: 0, REFUSE: REFUSAL_BYTES, **wanted}
    if size > most.get(kind, -1):
        belongs = " or ".join(map(str, wanted))
        raise MalformedStream(peer=peer, evidence=f"opening message {kind} of {size} bytes where {belongs} belongs")
    body = await tunnel.read_exactly(size)
    if kind == DUPLICATE:
        raise Duplicate
    if kind == REFUSE:
        raise _decode_refusal(peer, body)
    return kind, body


async def _receive_body(tunnel: Tunnel, peer: str, wanted: int) -> bytes:
    most = {GREETING: tunnel.limits.greeting_bytes}.get(wanted, 0)
    return (await receive_message(tunnel, peer, {wanted: most}))[1]


def _decode_refusal(peer: str, body: bytes) -> P2PFLError:
    try:
        said = json.loads(body)
        code, text, evidence = (printable(str(said[key])) for key in ("code", "text", "evidence"))
    except (ValueError, KeyError, TypeError, RecursionError):
        code, text, evidence = "no code", "it did not say why", "none"
    return RefusedThere(peer=peer, text=text, their_code=code, evidence=f"{peer} says {code}: {evidence}")


def _decode_hello(peer: str, body: bytes) -> LinkHello:
    version = int.from_bytes(body[:2], "big")  # a later version's hello begins with its number too
    if len(body) >= 2 and version != VERSION:
        older, evidence = peer if version < VERSION else "this site", f"the hello says version {version}"
        raise OpeningVersion(peer=peer, version=version, ours=VERSION, older=older, evidence=evidence)
    if len(body) != _HELLO.size:
        raise MalformedStream(peer=peer, evidence=f"a hello of {len(body)} bytes")
    _, incarnation, nonce, session, expected = _HELLO.unpack(body)
    if incarnation == NOBODY:
        raise MalformedStream(peer=peer, evidence="a hello without an incarnation")
    return LinkHello(incarnation, nonce, session, expected)


def _joint_nonce(side: Side, theirs: LinkHello) -> bytes:
    """32 bytes that neither end chose alone, the same at both: of names and nonces, the lower name first."""
    pairs = sorted([(side.name, side.hello), (side.peer, theirs)], key=lambda pair: pair[0])
    parts = [part for name, hello in pairs for part in (name.encode(), hello.incarnation, hello.nonce)]
    return digest("link-nonce", *parts)
