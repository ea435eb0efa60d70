"""Every decoder of the package in one table: what it reads, which errors are its refusals, valid samples, its limits.

`tests/fuzz/test_decoders.py` holds each to its promise; `tests/fuzz/target.py` tries for longer. A function that turns
foreign bytes into values and is reached by no row fails `test_every_function_that_decodes_is_in_the_table`.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import gzip
import io
import socket
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from PIL import Image

from p2pfl import codec, messages
from p2pfl.adapters import first
from p2pfl.cli import inputs
from p2pfl.cli.task.review import reaches
from p2pfl.clocks import SYSTEM
from p2pfl.codec import Malformed
from p2pfl.errors import P2PFLError, leaves
from p2pfl.errors.adapters import FirstModelUnfit
from p2pfl.errors.home import KeyDoesNotOpen, KeyMalformed, KeyslotsDamaged
from p2pfl.errors.ledger import ExportMalformed
from p2pfl.errors.mesh import MalformedStream, OpeningVersion, RefusedThere
from p2pfl.errors.models import CardUnfit, ModelFileBroken
from p2pfl.errors.paths import NotAProxy, ProxyFails, ProxyForbids, ProxyWantsPassword
from p2pfl.errors.people import NoSuchColumn, NotReadable, ValueNotANumber
from p2pfl.errors.questions import QuestionUnfit
from p2pfl.errors.sharing import WordOutOfRange, WordsMissized
from p2pfl.errors.statistics import WrongQuestion
from p2pfl.errors.task_process import TaskNotPython
from p2pfl.errors.training import AccountUnreadable, CompressionMisused, ModelMisfit, SupportMalformed
from p2pfl.federation import Federation, changefile, draft, strict_yaml
from p2pfl.federation.cards import Card
from p2pfl.federation.description import parse_description
from p2pfl.federation.federation import Privacy
from p2pfl.federation.membership import Change, Epochs, Lineage
from p2pfl.federation.optimisers import ModelAverage, ServerOptimiser
from p2pfl.federation.table_schema import TableSchema
from p2pfl.home import keyslots, sealing, steps
from p2pfl.keys import Identity, Secret
from p2pfl.ledger import auditor, entry, export, note, segment
from p2pfl.ledger.witness import HeldNotes, head_of
from p2pfl.mesh import opening, relay, tls_errors
from p2pfl.mesh.certificates import MalformedLeaf, expiry_of, issue, key_name, signer_of
from p2pfl.mesh.events import Limits, TlsFacts
from p2pfl.mesh.framing import ACK, DATA, FIRST, LAST, PING, Header, Incoming, MalformedFrame, Outgoing
from p2pfl.mesh.probe import rendezvous
from p2pfl.mesh.probe import wire as probe
from p2pfl.mesh.probe.rendezvous import CallRequest
from p2pfl.mesh.proxy import Proxy
from p2pfl.mesh.serverhello import group_of
from p2pfl.mesh.zmtp import GREETING, READY, MalformedZmtp
from p2pfl.mesh.zmtp import Decoder as ZmtpDecoder
from p2pfl.messages import Envelope, Letter, authentic
from p2pfl.node import question_file, retention, revocations
from p2pfl.node.hello import Greetings, Standing
from p2pfl.node.pledge import Pledge
from p2pfl.node.runs import answers
from p2pfl.node.runs.answers import Answer
from p2pfl.node.runs.question_counts import QuestionCounts
from p2pfl.node.runs.readings import DECIMALS, FLOATS, INTEGERS, ReadAs, Summed
from p2pfl.node.runs.turns import HeldBack
from p2pfl.node.site import SiteProcess
from p2pfl.roster import Address, Member, Roster
from p2pfl.sharing import certificate, evidence, history
from p2pfl.sharing.field import FIELDS
from p2pfl.statistics.facts import facts_of, question_of
from p2pfl.training.compression import lowrank, noised_sum
from p2pfl.training.compression import nomination as compression
from p2pfl.training.model import checkpoint
from p2pfl.training.model.card import ModelCard
from p2pfl.training.model.file import ModelFile
from p2pfl.training.model.personal import PersonalState
from p2pfl.training.model.state import ModelState, StateLayout
from p2pfl.training.privacy.account import Account
from p2pfl.training.privacy.accounts import Accounts
from p2pfl.training.process import wire as wire_of_tasks
from p2pfl.training.records.column_map import ColumnMap
from p2pfl.training.records.nifti import NotAVolume, parse_nifti
from p2pfl.training.records.table_draft import read_draft
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.tasks import heart
from p2pfl.training.tasks.images import NotAnImage, parse_image
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.update import TensorLayout
from tests.federation import changes as membership
from tests.federation import sample as federation_sample
from tests.federation.test_scan_schema import IMAGES, VOLUMES
from tests.ledger import exports
from tests.ledger import sample as books
from tests.node.test_hello import Heads, Members
from tests.sharing import test_evidence as liars
from tests.sharing.test_evidence import LIAR, MEMBERS, D, V, paper
from tests.statistics.test_promises import QUESTIONS
from tests.training.cards import made
from tests.vectors import generate_wire as wire

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PATH: Final = "given"
SOURCES: Final = (b"import os\nopen('x')\n", b"# coding: utf-7\n#+AAo-import os\n", b"\xef\xbb\xbfx = 1\n")
"""How a file is called in errors."""


@dataclass(frozen=True)
class Decoder:
    """One row.

    decode    bytes ► value, or one of `refusals`, and nothing else ever
    again     value ► bytes, where the codec promises one encoding: what was read must be what was written
    reaches   "module:function" of the package that this row puts to the test beside what it calls by name
    factor    the memory that reading may take beside `fixed` bytes, as a multiple of the input
    """

    name: str
    decode: Callable[[bytes], Any]
    refusals: tuple[type[BaseException], ...]
    samples: tuple[bytes, ...]
    reaches: tuple[str, ...]
    again: Callable[[Any], bytes | None] | None = None
    factor: int = 40
    fixed: int = 256 * KIB


# ── letters ───────────────────────────────────────────────────────────────────────────────────────────────────

IDENTITIES: Final = {name: Identity(wire.filled(f"identity of {name}")) for name in wire.NAMES}
ROSTER: Final = Roster(1, tuple(Member(name, one.key) for name, one in IDENTITIES.items()))
LETTERS: Final = tuple(bytes.fromhex(case["data"]) for case in wire.whole())
SIGNERS: Final = {**IDENTITIES, **paper.identities}
NONCE, FEDERATION_DIGEST = wire.filled("link"), wire.filled("federation_digest")
PLEDGE: Final = Pledge(b"genesis", b"")


def _written(letter: Letter) -> bytes:
    return letter.wire


def _signed(data: bytes) -> tuple[bytes, ...]:
    """Bodies of letters, each signed by the site that it names: so what is read behind a signature is reached too.

    One that travels unsigned, or of no kind at all, is given as the letter that it is.
    """
    found = []
    for kind, body in codec.unpack(data, most=MIB, items=64):
        if not isinstance(body, bytes):
            raise Malformed("no letter")
        cls = messages.KINDS.get(kind) if type(kind) is int else None
        if cls is None or not cls.signed:
            found.append(body)
            continue
        row = codec.unpack(body, most=MIB, items=1024)
        sender = row[5] if isinstance(row, tuple) and len(row) > 5 else None
        if not isinstance(sender, str) or sender not in SIGNERS:
            raise Malformed("no sender")
        signature = SIGNERS[sender].sign("message/" + cls.__name__.lower(), body)
        found.append(codec.pack((kind, body, signature)))
    return tuple(found)


def _bodies(*data: bytes) -> bytes:
    bulk = 0  # no kind
    return codec.pack(
        tuple((bulk, one) if one[:1] == b"\x92" else codec.unpack(one, most=MIB, items=3)[:2] for one in data)
    )


def _rows(data: bytes) -> Any:
    """Well-signed bodies: through the pairs of the packed list, or Malformed."""
    try:
        return _signed(data)
    except (TypeError, ValueError) as error:
        raise Malformed(str(error)) from None


def _certified(data: bytes) -> Any:
    return [
        certificate.check_certificate(messages.narrow(messages.read_letter(one), messages.Certificate), paper.roster)
        for one in _rows(data)
    ]


def _composed(data: bytes) -> Any:
    return [
        certificate.compose(messages.narrow(messages.read_letter(one), messages.Members), paper.roster)
        for one in _rows(data)
    ]


def _recorded(data: bytes) -> Any:
    signed = {name: one.sign("record", data) for name, one in books.SITES.items()}
    roster = Roster(1, tuple(Member(name, one.key) for name, one in books.SITES.items()))
    return history.to_adopt(history.check_rows([(data, signed)], roster, {}), 0)


LOOP: Final = asyncio.new_event_loop()  # hellos are judged in one


def _greetings() -> Greetings:
    standing = Standing(3, bytes(32), lambda size: bytes(32), "1.0", lambda run: (1 << 53, 0), 1.0)
    process = SiteProcess(IDENTITIES["mayo"], "mayo", ROSTER, bytes(16), FEDERATION_DIGEST, SYSTEM)
    return Greetings(process, PLEDGE, lambda: standing, Members(), Heads(), lambda error: None)


def _hello(echo: tuple[bytes, ...] = ()) -> bytes:
    sender, genesis = IDENTITIES["st-olav"], IDENTITIES["st-olav"].sign("record", PLEDGE.genesis)
    message = messages.Hello(NONCE, FEDERATION_DIGEST, genesis, b"", 0, 3, bytes(32), "0.5", b"", echo, ())
    return messages.seal(message, Envelope(wire.filled("run"), 1, 0, 0, "st-olav", bytes(16)), sender).wire


def _greet(data: bytes) -> Any:
    LOOP.run_until_complete(_greetings().check_greeting("st-olav", data, NONCE))


def _greet_signed(data: bytes) -> Any:
    """A hello of st-olav whose echo, or whose whole body, is what it makes of it."""
    for one in _rows(data):
        LOOP.run_until_complete(_greetings().check_greeting("st-olav", one, NONCE))


def _remember(data: bytes) -> Any:
    _greetings().remember(data)


# ── links ─────────────────────────────────────────────────────────────────────────────────────────────────────

TAG: Final = b"the link"
WINDOW: Final = 256 * KIB


def frame(kind: int, flags: int = 0, number: int = 0, acknowledged: int = 0, total: int = 0, body: bytes | None = None,
          tag: bytes = TAG) -> bytes:  # fmt: skip
    """A message as a tunnel writes it."""
    head = Header(kind, flags, tag, number, acknowledged, total).encode()
    if body is None:
        return bytes([0, len(head)]) + head
    size = struct.pack("!BQ", 2, len(body)) if len(body) > 255 else bytes([0, len(body)])
    return bytes([1, len(head)]) + head + size + body


def _changed(data: bytes) -> Any:
    signed = {name: membership.IDENTITIES[name].sign("membership", data) for name in membership.NAMES}
    return LINEAGE.after(Change(data, signed))


def _link(data: bytes) -> Any:
    """One direction of a link as the tunnel and the framing take it, one after another."""
    decoder, said, rest = ZmtpDecoder(), list[tuple[bytes, Any]](), memoryview(data)
    while rest:
        rest = rest[decoder.feed(rest) :]
        said += decoder.messages
        decoder.messages.clear()
    incoming, outgoing = Incoming(WINDOW), Outgoing(WINDOW)
    outgoing.queue_payload(b"something")
    outgoing.next_frame()
    outgoing.mark_sent()
    payloads = []
    for header, body in said:
        found = Header.decode(header)
        outgoing.acknowledge(found.acknowledged)
        if found.kind == DATA and (payload := incoming.receive(found, memoryview(body or b""))) is not None:
            payloads.append(len(payload))
    outgoing.resume(0)
    return payloads


SPOKEN: Final = GREETING + READY + b"".join((
    frame(PING, number=12), frame(DATA, FIRST | LAST, 0, 1, 5, b"hello"), frame(ACK, acknowledged=1),
    frame(DATA, FIRST, 1, 1, 64 * KIB + 3, bytes(64 * KIB)), frame(DATA, LAST, 2, 1, 0, b"end"),
    frame(DATA, FIRST | LAST, 3, 1, 0, b""),
))  # fmt: skip


class _Heard:
    """A tunnel whose far end has said all that it ever says."""

    dialed, limits, facts = True, Limits(greeting_bytes=64 * KIB), TlsFacts("TLSv1.3", "none", "none")

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def write(self, data: bytes) -> None:
        pass

    async def read_exactly(self, count: int) -> bytes:
        if count > len(self._data):
            raise ConnectionError("the far end closed the connection")
        taken, self._data = self._data[:count], self._data[count:]
        return taken


class _Anything:
    def greeting(self, peer: str, nonce: bytes) -> bytes:
        return b""

    def admit(self, peer: str) -> None:
        pass

    async def check_greeting(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        pass


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _open(data: bytes) -> Any:
    side = opening.Side("bob", "ada", HELLO, _Anything(), lambda theirs: True)
    heard: Any = _Heard(data)
    return _loop().run_until_complete(opening.open_link(heard, side))


def _proxied(data: bytes) -> None:
    """What a proxy answers, and then nothing more."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.sendall(data[: 64 * KIB])
        there.shutdown(socket.SHUT_WR)
        address = Address("mayo", 7443)
        _loop().run_until_complete(Proxy.parse("http://127.0.0.1:3128").open(here, address, "mayo"))


ANSWERS: Final = (
    b"HTTP/1.1 200 Connection established\r\n\r\n", b"HTTP/1.0 407 No\r\nA: b\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n",
    b"HTTP/1.1 403 \x1b[2J\r\n\r\n", b"SSH-2.0-OpenSSH\r\n",
)  # fmt: skip


def said(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(4, "big") + body


HELLO: Final = opening.LinkHello(bytes(15) + b"a", bytes(32), opening.NO_SESSION, 0)
REFUSAL: Final = b'{"code": "P2P-ROUND-021", "text": "no", "evidence": "none"}'
OPENINGS: Final = (
    said(1, HELLO.encode()) + said(2, b"a greeting") + said(3, b""),
    said(1, HELLO.encode()) + said(4, REFUSAL), said(1, HELLO.encode()) + said(5, b""), said(4, REFUSAL),
    said(4, b'{"code":[1,{}],"text":null,"evidence":{"a":[]}}'),
)  # fmt: skip


def _refused(data: bytes) -> str:
    """Whatever ended a handshake and whatever its first bytes were: an error with a text."""
    named = tls_errors.translate(
        ConnectionError(data.decode("latin-1")), peer="a caller", first_bytes=data[:16], dialed=False
    )
    tls_errors.printable(data.decode("utf-8", "replace"))
    return named.render()


def _server_hello(group: int) -> bytes:
    extensions = struct.pack("!HHHHH", 0x33, 4, group, 0, 0x2B) + struct.pack("!HH", 2, 0x0304)
    hello = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x13\x02\x00" + struct.pack("!H", len(extensions))
    hello += extensions
    handshake = b"\x02" + len(hello).to_bytes(3, "big") + hello
    return b"\x16\x03\x03" + struct.pack("!H", len(handshake)) + handshake


def _leaf(data: bytes) -> Any:
    member, claimed = signer_of(data, ROSTER)
    return member, claimed, expiry_of(data)


@functools.cache
def _leaves() -> tuple[bytes, ...]:
    """A good leaf, one whose name is odd, one without a name: all signed by a member."""
    identity = IDENTITIES["mayo"]
    pem = issue(identity, "mayo", 1.75e9).certificate
    good = x509.load_pem_x509_certificate(pem)
    found = [good]
    for name in ("\u202emayo\n\x1b[2J", ""):
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name(names)).issuer_name(key_name(identity.key))
            .public_key(identity.signer.public_key()).serial_number(1)
            .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
        )  # fmt: skip
        found.append(builder.sign(identity.signer, None))
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────

OF_A_FILE: Final = tuple(leaf for leaf in leaves() if leaf.__module__ == "p2pfl.errors.federation")
OF_DATA: Final = tuple(leaf for leaf in leaves() if leaf.__module__ == "p2pfl.errors.training")
MASTER: Final = Secret(bytes(range(32)), "master")
SALT: Final = bytes(32)
MANY: Final = TensorLayout((("bias", (2,)), ("weight", (2, 3))))
ADAM: Final = StateLayout.of(MANY, ServerOptimiser("adam"), ModelAverage(0.5))
HELD_BACK: Final = HeldBack(bytes(32), 7, np.zeros(8, np.float32), np.arange(8, dtype=np.float32))
OWN: Final = PersonalState(MANY, bytes(32), 7, np.zeros(8, np.float32), np.arange(8, dtype=np.float32))
BEGUN: Final = ADAM.first(np.arange(8, dtype=np.float32), ServerOptimiser("adam"))


def _state(data: bytes) -> ModelState:
    found = ADAM.from_bytes(data)
    if found is None:
        raise ValueError("another length")
    return found


def _column(data: bytes) -> Any:
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(data)
        file.flush()
        return inputs._column(Path(file.name), "age")


TABLE: Final = TableTask(heart.heart())
DESCRIBED: Final = federation_sample.TABLE + federation_sample.ASKED


def _read_records(data: bytes) -> Any:
    return TABLE.read(data, PATH)


def _volumes() -> tuple[bytes, ...]:
    """NIfTI-1 and NIfTI-2, compressed and not; the last one has a scale, and axes that go elsewhere."""
    values, turned = (
        np.arange(24, dtype=np.int16).reshape(2, 3, 4),
        np.array([[0, -2, 0, 1], [3, 0, 0, 0], [0, 0, 1, 0]]),
    )
    affine = np.vstack([turned, [0, 0, 0, 1]]).astype(float)
    plain = [kind(values, affine).to_bytes() for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image)]
    scaled = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4))
    scaled.header.set_slope_inter(0.5, 3.0)
    return (*plain, gzip.compress(plain[0]), scaled.to_bytes())


def _pictures() -> tuple[bytes, ...]:
    found = []
    for kind, mode in (("PNG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "RGB")):
        out = io.BytesIO()
        Image.new(mode, (9, 7), 77).save(out, kind)
        found.append(out.getvalue())
    return tuple(found)


def _segment(data: bytes) -> Any:
    reader = segment.SegmentReader(data, lambda salt: MASTER)
    return list(reader), reader.damage


def _frame(data: bytes) -> Any:
    """The opened bytes of a frame whose seal is good: written by this site's key, or by a version to come."""
    head = segment.HEAD.pack(segment.MARK, 0, len(data) + segment.TAG_BYTES)
    at = segment.header(SALT)
    sealed = segment.AESGCM(MASTER.reveal()).encrypt(bytes(12), data, at + head)
    return _segment(at + head + sealed)


@functools.cache
def _segments() -> tuple[bytes, ...]:
    sealer = segment.Sealer(MASTER, SALT)
    frames = [segment.SegmentFrame(segment.ENTRY, k, k, bytes(32), record, signed)
              for k, (record, signed) in enumerate(books.federation_records(2))]  # fmt: skip
    sealed = [sealer.seal(each) for each in frames]
    return segment.header(SALT) + b"".join(sealed), segment.header(SALT) + sealed[0] + sealed[1][:-40]


def _opened_frames() -> tuple[bytes, ...]:
    name, signature = b"\x07charite", bytes(64)
    return tuple(segment.BODY.pack(kind, 0, 0, bytes(32), 2) + b"{}" + name + signature for kind in (1, 2))


def _entry(data: bytes) -> Any:
    held = entry.read_record(data)
    entry.render(entry.Entry(0, data, {}, bytes(32)))
    return held


def _note(data: bytes) -> Any:
    text = data.decode("utf-8")
    head, signatures = note.parse_note(text)
    note.federation_of(head)
    note.signed_by(text, "charite", books.SITES["charite"].key)
    return head, signatures


def _note_again(found: Any) -> bytes:
    head, signatures = found
    lines = [
        f"{note.DASH}{each.name} {note.base64.b64encode(each.key_id + each.signature).decode('ascii')}\n"
        for each in signatures
    ]
    text: str = head.text + "\n" + "".join(lines)
    return text.encode()


@functools.cache
def _notes() -> tuple[bytes, ...]:
    identity, head = books.SITES["charite"], note.Head("p2pfl/1/site/charite", 3, bytes(32), (FEDERATION,))
    signed = note.sign(head, "charite", identity)
    return signed.encode(), note.cosign(signed, "ucl", books.SITES["ucl"]).encode()


def _held_heads() -> tuple[bytes, ...]:
    one, both = _notes()
    return HeldNotes({"ucl": both}, {"ucl": one}, {"ucl": both, "st-olav": one}).to_bytes(), HeldNotes().to_bytes()


FEDERATION: Final = "federation 2 " + "A" * 43 + "="


@functools.cache
def _exports() -> tuple[bytes, ...]:
    record, signed = books.genesis()
    entry = {"record": record.decode(), "signatures": {name: one.hex() for name, one in signed.items()}}
    leaf = export.leaf_hash(record)
    root = export.root_of([leaf, bytes(32)])
    head = note.Head("p2pfl/1/site/charite", 2, root)
    held = {"log": "federation", "site": "charite", "size": 2, "root": root.hex(), "head": "00" * 32,
            "signed_head": note.sign(head, "charite", books.SITES["charite"]),
            "entries": [entry, "00" * 32]}  # fmt: skip
    alone = codec.facts({"format": export.FORMAT, **held}) + b"\n"
    beside = {"format": export.FORMAT, **held, "log": "site", "signed_head": None, "federation": held}
    return alone, codec.facts(beside)


@functools.cache
def _audits() -> tuple[bytes, ...]:
    of, change = membership.with_agreement()
    two_epochs = exports.log_of(membership.two_epochs(change, of=of), "ada", {"ada": membership.IDENTITIES["ada"]})
    beside = exports.log_of(books.federation_records(1))
    site = exports.log_of(books.site_records(6), log="site", beside=beside)
    return exports.file_of(two_epochs), exports.file_of(site, federation=beside)


@functools.cache
def _keyslot_files() -> tuple[bytes, ...]:
    slot = keyslots.Slot("pass phrase", dict(keyslots.ARGON2), SALT, bytes(48))
    other = keyslots.Slot("key file", {"path": "/etc/p2pfl/site.key"}, SALT, bytes(48))
    return keyslots.to_bytes("mayo", (slot, other)), keyslots.to_bytes("mayo", ())


def _sealed() -> bytes:
    return b"".join(sealing.seal(MASTER, "mayo", "state/residual", b"something", SALT))


STEP: Final = (
    steps.Put("state/attempt", b"dealt"),
    steps.Put("state/sums/0", None),
    steps.Filed("state/sums/1"),
    steps.SegmentTail("ledger/site/00000001.segment", 4096, b"a frame"),
)


def _steps() -> tuple[bytes, ...]:
    return steps.packed(STEP), steps.packed(STEP[:1]), steps.packed(())


def _journals() -> tuple[bytes, ...]:
    """As a process leaves them, but that its records are not sealed."""
    bodies = [bytes(sealing.OVERHEAD_BYTES) + step for step in _steps()]
    sizes = [steps.LENGTH.pack(len(body), len(body) ^ steps.EVERY_BIT) for body in bodies]
    return b"".join(size + body for size, body in zip(sizes, bodies, strict=True)), sizes[0] + bodies[0][:-9]


def _restore(data: bytes) -> Any:
    compression.Compressor("nominate", 0.5, 6, 3).restore(data)


@functools.cache
def _states() -> tuple[bytes, ...]:
    one = compression.Compressor("nominate", 0.5, 6, 3)
    one.nominate(np.arange(6, dtype=np.float32))
    return (b"".join(one.to_pieces()),)


LOWRANK: Final = TensorLayout((("w", (26, 25)), ("bias", (2,))))


def _restore_lowrank(data: bytes) -> Any:
    lowrank.Lowrank(0.1, LOWRANK).restore(data)


@functools.cache
def _lowrank_states() -> tuple[bytes, ...]:
    one, first = lowrank.Lowrank(0.1, LOWRANK), np.zeros(652, np.float32)
    one.nominate(np.arange(one.length, dtype=np.float32), one.subspace(first, first))
    return (b"".join(one.to_pieces()),)


def _restore_noised(data: bytes) -> Any:
    noised_sum.NoisedSum(compression.Compressor("none", 1.0, 6, 3)).restore(data)


@functools.cache
def _noised_states() -> tuple[bytes, ...]:
    one = noised_sum.NoisedSum(compression.Compressor("none", 1.0, 6, 3))
    one.nominate(np.arange(6))
    return (b"".join(one.to_pieces()),)


ANSWER_READERS: Final = (
    "node.runs.answers:read_answer",
    "node.runs.answers:_summed",
    "node.runs.readings:ReadAs.of_row",
    "node.runs.readings:_is_step",
)


def _question_counts() -> tuple[bytes, ...]:
    counts = QuestionCounts()
    empty = b"".join(map(bytes, counts.to_bytes()))
    counts.add(bytes(range(16)), np.array([3, 5, 8], np.uint64), ("age", "sex"))
    counts.missing(3)
    counts.add(bytes(range(16, 32)), np.array([5, 9], np.uint64), ("age",))
    return b"".join(map(bytes, counts.to_bytes())), empty


def _answers() -> tuple[bytes, ...]:
    place = (bytes(32), bytes(32), 4, ("ada", "ben", "cyd"), 3)
    sums = (
        Summed(ReadAs(DECIMALS, 61, 1, "2"), np.array([150], np.uint64)),
        Summed(ReadAs(INTEGERS, 61, 2), np.arange(2, dtype=np.uint64)),
        Summed(ReadAs(FLOATS, 16, 1, "0.25"), np.array([7], np.uint16)),
        Summed(ReadAs(FLOATS, 16, 0, "0.25", bytes(32)), np.zeros(0, np.uint16)),
    )
    return tuple(b"".join(map(bytes, answers.packed(Answer(*place, some)))) for some in (sums, sums[1:3], ()))


def _heads_of_answers() -> tuple[bytes, ...]:
    """Of one that is made of masked sums."""
    row = ReadAs(INTEGERS, 61, 2).row
    masked = ("state/sums/1", bytes(32), ((bytes(32), b"\x01" * 32),))
    return (codec.pack((bytes(32), bytes(32), 4, ("ada", "ben", "cyd"), 3, (row,), masked)),)


def _head_again(found: tuple[tuple[Any, ...], memoryview]) -> bytes:
    (*head, of), tail = found
    more = () if of is None else ((of.item, of.attempt_digest, of.keys),)
    return codec.pack((*head, *more)) + bytes(tail)


@functools.cache
def _accounts() -> tuple[bytes, ...]:
    account = Account()
    account.charge(Privacy("record", 4.0, 1.0, 0.1, 2, 1e-5, 3.0))
    return account.to_bytes(), Account().to_bytes()


@functools.cache
def _all_accounts() -> tuple[bytes, ...]:
    accounts, records = Accounts(), np.arange(3, dtype=np.uint64)
    accounts.admit(records)
    facts = {"round": 1, "time": 5}
    accounts.charge(records, Privacy("record", 4.0, 1.0, 0.1, 2, 1e-5, 3.0), bytes(32), "heart", facts)
    return b"".join(accounts.to_bytes()), b"".join(Accounts().to_bytes())


def _facts(data: bytes) -> Any:
    return codec.read_facts(data)


RECORDS: Final = tuple(record for record, _ in (*books.federation_records(1), *books.site_records()))
CARD: Final = federation_sample.CARDS[0].to_bytes()
PEERS: Final = federation_sample.peers_yaml()
CLIENTS: Final = draft.peers_file(
    "trial",
    [card.member for card in federation_sample.CARDS],
    draft.client_lines("flower", bytes(range(32)), ["loss", "accuracy"]),
    ["privacy=none"],
)
LINEAGE: Final = membership.lineage(membership.federation())
CHANGE_FILE: Final = changefile.to_bytes(membership.all_three())
AGREED: Final = Federation.parse(PEERS, "peers.yaml")
QUESTION: Final = question_file.to_bytes(
    {"kind": "describe", "bins": 4, "columns": [{"column": "age"}, {"column": "sex"}]},
    AGREED,
    federation_sample.NAMES[0],
    federation_sample.IDENTITIES[0],
)
COLUMNS: Final = (
    b'columns: {Alter: age, Geschlecht: sex}\ncodes: {sex: {m: 1, w: 0}}\nmissing: ["", "?"]\nabsent: [ca, thal]\n',
    b"absent: []\n",
)
CSV: Final = (
    (",".join(heart.heart().names) + "\n63,1,1,145,233,1,2,150,0,2.3,3,0,6,0\n").encode(),
    (";".join(heart.heart().names) + "\r\n67;1;4;160;286;0;2;108;1;1.5;2;3;3;1\r\n").encode(),
)
TAILS: Final = (codec.pack((1, b"x" * 300, "text", 1 << 40)) + b"behind it", codec.pack(b"run") + bytes(1 << 16))
ROW: Final = codec.specs_of(Envelope)
PLACE: Final = codec.pack((wire.filled("run"), 1, 12, 2, "mayo", bytes(16)))


def _table() -> tuple[Decoder, ...]:
    return (
        Decoder("facts", _facts, (Malformed,), RECORDS, ("codec:read_facts",), codec.facts, factor=80),
        Decoder("msgpack", lambda data: codec.unpack(data, most=MIB, items=808), (Malformed,), LETTERS,
                ("codec:unpack",), fixed=8 * MIB),
        Decoder("tail", lambda data: codec.split_tail(data, most=512, items=8), (Malformed,), TAILS,
                ("codec:split_tail",), lambda found: b"".join(codec.with_tail(*found))),
        Decoder("row", lambda data: codec.read_row(data, ROW, most=4096), (Malformed,), (PLACE,),
                ("codec:read_row",), codec.pack),
        Decoder("letter", messages.read_letter, (Malformed,), LETTERS,
                ("messages.letters:read_letter", "messages.letters:_cut"), _written,
                fixed=8 * MIB),
        Decoder("signed letter", lambda data: messages.open_letter(data, ROSTER, messages.Message), (Malformed,),
                LETTERS, (), _written, fixed=8 * MIB),
        Decoder("resigned letter", lambda data: [authentic(messages.read_letter(one), ROSTER) for one in _rows(data)],
                (Malformed,), tuple(map(_bodies, LETTERS)), (), fixed=8 * MIB),
        Decoder("hello", _greet, (P2PFLError,), (_hello(), _hello(LETTERS[3:5])), (), fixed=8 * MIB),
        Decoder("resigned hello", _greet_signed, (P2PFLError, Malformed),
                (_bodies(_hello()), _bodies(_hello(LETTERS[3:5]))), (), fixed=8 * MIB),
        Decoder("statements", _remember, (Malformed,), (codec.pack(list(LETTERS[:6])), codec.pack([])), (),
                fixed=8 * MIB),
        Decoder("certificate", _certified, (Malformed,), _certificates(), (), fixed=8 * MIB),
        Decoder("members", _composed, (Malformed,), (_bodies(MEMBERS.wire),), (), fixed=8 * MIB),
        Decoder("evidence", lambda data: evidence.convict(_rows(data), paper.roster), (Malformed,), _proofs(), (),
                fixed=8 * MIB),
        Decoder("entries", _recorded, (Malformed, KeyError), tuple(record for record, _ in books.federation_records()),
                ("sharing.history:_run",), factor=80),
        Decoder("header", Header.decode, (MalformedFrame,), (Header(DATA, 3, TAG, 1, 2, 3).encode(),),
                ("mesh.framing:Header.decode",), Header.encode),
        Decoder("link", _link, (MalformedZmtp, MalformedFrame), (SPOKEN, GREETING + READY),
                ("mesh.zmtp:Decoder._begin_part", "mesh.zmtp:_check_ready"), fixed=17 * MIB),
        Decoder("come", lambda data: relay.decode_come(data), (MalformedFrame,),
                (relay.encode_come(1, bytes(16), "mayo"),), ("mesh.relay:decode_come",),
                lambda found: relay.encode_come(*found)),
        Decoder("declined", relay.decode_declined, (MalformedFrame,), (b"\x01mayo", b"\x02mayo"),
                ("mesh.relay:decode_declined",), lambda found: bytes([found[0]]) + found[1].encode()),
        Decoder("proxy", _proxied, (ProxyWantsPassword, ProxyForbids, ProxyFails, NotAProxy), ANSWERS,
                ("mesh.proxy:Proxy.open",)),
        Decoder("opening", _open, (MalformedStream, OpeningVersion, RefusedThere, opening.Duplicate, ConnectionError),
                OPENINGS,
                ("mesh.opening:_receive_wanted", "mesh.opening:_decode_refusal", "mesh.opening:_decode_hello")),
        Decoder("probe facts", lambda data: probe.PeerFacts.decode("mayo", data), (MalformedStream, OpeningVersion),
                (probe.PeerFacts(1, 1 << 24, bytes(32), "0.1.0").encode(),), ("mesh.probe.wire:PeerFacts.decode",),
                factor=80),
        Decoder("ping", lambda data: probe.decode_ping("mayo", data), (MalformedStream,), (probe.encode_ping(7),),
                ("mesh.probe.wire:decode_ping",), probe.encode_ping),
        Decoder("pong", lambda data: probe.decode_pong("mayo", data), (MalformedStream,), (probe.encode_pong(7, 8.5),),
                ("mesh.probe.wire:decode_pong",)),
        Decoder("want", lambda data: probe.decode_want("mayo", data), (MalformedStream,),
                (probe.encode_want(9000, 1400),), ("mesh.probe.wire:decode_want",),
                lambda value: probe.encode_want(*value)),
        Decoder("calls wished", lambda data: rendezvous.decode_requests("mayo", data), (MalformedStream,),
                (rendezvous.encode_requests([CallRequest("cyd", 0), CallRequest("bob", 1)]),),
                ("mesh.probe.rendezvous:decode_requests",), rendezvous.encode_requests, factor=80),
        Decoder("calls given", lambda data: rendezvous.decode_granted("mayo", data), (MalformedStream,),
                (rendezvous.encode_requests([CallRequest("cyd", 0, bytes(16))]),),
                ("mesh.probe.rendezvous:decode_granted",), rendezvous.encode_requests, factor=80),
        Decoder("dialed", lambda data: probe.decode_dialed("mayo", data), (MalformedStream,),
                (probe.encode_dialed([probe.Dialed("10.0.0.1:1", 3), probe.Dialed("a:1", 0, "P2P-MESH-003", "b", "c")]),
                 b'[["a", 1e999, "", "", ""]]'), ("mesh.probe.wire:decode_dialed",), factor=80),
        Decoder("server hello", group_of, (), (_server_hello(0x11EC), _server_hello(0x1D) * 2),
                ("mesh.serverhello:group_of", "mesh.serverhello:_key_share")),
        Decoder("first bytes", _refused, (), (b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"SSH-2.0-x"),
                (), factor=120),
        Decoder("leaf", _leaf, (MalformedLeaf,), _leaves(),
                ("mesh.certificates:signer_of", "mesh.certificates:expiry_of")),
        Decoder("yaml", lambda data: strict_yaml.read_yaml(data, PATH), OF_A_FILE, (PEERS, CARD, *COLUMNS),
                ("federation.strict_yaml:read_yaml",), factor=400, fixed=MIB),
        Decoder("peers.yaml", lambda data: Federation.parse(data, PATH), OF_A_FILE, (PEERS, CLIENTS),
                ("federation.federation:Federation.parse", "federation.federation:Federation._read",
                 "federation.members:read_members",
                 "federation.task_choice:read_task", "federation.clients:_first", "federation.members:read_key",
                 "keys:belongs_to_somebody"),
                factor=400, fixed=MIB),
        Decoder("card", lambda data: Card.parse(data, PATH), OF_A_FILE, (CARD,),
                ("federation.cards:Card.parse",), factor=400, fixed=MIB),
        Decoder("question of a statistic", lambda data: question_of(codec.read_facts(data)), (Malformed, WrongQuestion),
                tuple(codec.facts(facts_of(one)) for one in QUESTIONS), ("statistics.facts:question_of",), factor=80),
        Decoder("change file", lambda data: changefile.parse(data, PATH), OF_A_FILE, (CHANGE_FILE,),
                ("federation.changefile:parse", "federation.federation:_lineage"), factor=600, fixed=2 * MIB),
        Decoder("change", lambda data: LINEAGE.check_change(Change(data, {})), (Malformed,),
                (membership.all_three().record,), (), factor=600, fixed=2 * MIB),
        Decoder("change that all have signed", _changed, (Malformed,),
                (membership.all_three().record,), (), factor=600, fixed=2 * MIB),
        Decoder("genesis", Lineage.of_genesis, (Malformed,), (membership.genesis_row()[0],),
                ("federation.membership:Lineage.of_genesis",), factor=80),
        Decoder("epochs", lambda data: Epochs.of([membership.genesis_row(), (data, {})]), (Malformed,),
                (membership.round_row(1, b"", membership.old_keys(), announced="ab" * 32)[0],),
                ("federation.membership:Epochs._round",), factor=80),
        Decoder("task's source", lambda data: reaches(data, Path(PATH)), (TaskNotPython,), SOURCES,
                (), factor=3000, fixed=4 * MIB),
        Decoder("column map", lambda data: ColumnMap.parse(data, PATH, TABLE.schema.columns),
                (*OF_A_FILE, *OF_DATA), COLUMNS, (), factor=400, fixed=MIB),
        Decoder("table", lambda data: TableSchema.parse(data, PATH), OF_A_FILE,
                (heart.TEXT, DESCRIBED, *federation_sample.LABELLED),
                ("federation.table_schema:TableSchema.parse",),
                factor=400, fixed=MIB),
        Decoder("description", lambda data: parse_description(data, PATH), OF_A_FILE,
                (IMAGES.encode(), VOLUMES.encode()), (), factor=400, fixed=MIB),
        Decoder("drafted table", lambda data: read_draft(data, PATH, ColumnMap()).text("age").encode(), OF_DATA, CSV,
                ("training.records.table_draft:read_draft",), factor=200, fixed=MIB),
        Decoder("volume", parse_nifti, (NotAVolume,), _volumes(),
                ("training.records.nifti:parse_nifti",), fixed=4 * MIB),
        Decoder("picture", lambda data: parse_image(data, 8, 1, dicom=False), (NotAnImage,), _pictures(),
                ("training.tasks.images:parse_image",), fixed=4 * MIB),
        Decoder("records", _read_records, OF_DATA, CSV, ("training.records.columns:rows_of",), factor=200),
        Decoder("column of a csv", _column, (NotReadable, NoSuchColumn, ValueNotANumber, *OF_DATA),
                (CSV[0], b"age\n1\n2.5\n"), ("cli.inputs:_column",), factor=200),
        Decoder("entry", _entry, (ValueError,), RECORDS, ("ledger.kind:_of_hex",), codec.facts, factor=80),
        Decoder("head", _note, (ValueError,), _notes(), ("ledger.note:_base64",), _note_again),
        Decoder("held heads", HeldNotes.from_bytes, (Malformed,), _held_heads(), (), HeldNotes.to_bytes,
                fixed=8 * MIB),
        Decoder("head of a site log", lambda data: head_of(data, "charite", (books.SITES["charite"].key,)),
                (Malformed,), _notes(), ("ledger.witness:head_of",)),
        Decoder("export", lambda data: export.read_export(data, PATH), (ExportMalformed,), _exports(),
                ("ledger.export:read_export", "ledger.export:_bytes"), factor=80),
        Decoder("audit", lambda data: auditor.checked(data, None), auditor.BAD, _audits(),
                ("ledger.auditor:canonical", "ledger.auditor:note_of", "ledger.auditor:Federation._membership",
                 "ledger.auditor:check_site", "ledger.auditor:signed", "ledger.auditor:unbase64",
                 "ledger.auditor:unhex"), factor=80, fixed=MIB),
        Decoder("segment", _segment, (), _segments(),
                ("ledger.segment:SegmentReader._frame", "ledger.segment:SegmentReader._claimed")),
        Decoder("frame", _frame, (), _opened_frames(), ("ledger.segment:_open",)),
        Decoder("keyslots", lambda data: keyslots.from_bytes(data, Path(PATH)), (KeyslotsDamaged,), _keyslot_files(),
                ("home.keyslots:from_bytes",), factor=80),
        Decoder("key", lambda data: keyslots.parse_key(data, "mayo", "key file", PATH), (KeyMalformed, KeyDoesNotOpen),
                (keyslots.key_text("mayo", MASTER),), ("home.keyslots:parse_key",)),
        Decoder("sealed item", lambda data: sealing.unseal(MASTER, "mayo", "state/residual", data), (ValueError,),
                (_sealed(),), (), lambda value: _sealed() if value == b"something" else None),
        Decoder("steps in a journal", steps.read_changes, (Malformed,), _steps(),
                ("home.steps:_read_change",), steps.packed),
        Decoder("journal", lambda data: steps.read_journal(data, lambda sealed: sealed[sealing.OVERHEAD_BYTES :]),
                (ValueError,), _journals(), ("home.steps:read_journal", "home.steps:_end_of")),
        Decoder("checkpoint", lambda data: checkpoint.from_bytes(data, MANY), (ModelMisfit,),
                (checkpoint.to_bytes(np.arange(8, dtype=np.float32), MANY, {"task": "table"}),),
                ("training.model.checkpoint:named_tensors",), factor=80),
        Decoder("state of a model", ADAM.from_file, (ModelMisfit,), (b"".join(BEGUN.to_file({"task": "table"})),),
                ("training.model.checkpoint:facts_of", "training.model.checkpoint:named_tensors"), factor=80),
        Decoder("layers of a site", PersonalState.from_file, (ModelFileBroken, ModelMisfit), (b"".join(OWN.to_file()),),
                ("training.model.personal:PersonalState.from_file", "training.model.checkpoint:facts_of",
                 "training.model.file:_header", "training.model.file:_tensors"),
                lambda value: b"".join(value.to_file()), factor=400, fixed=MIB),
        Decoder("held back of an average", HeldBack.from_bytes, (Malformed,), (b"".join(HELD_BACK.to_pieces()),),
                ("node.runs.turns:HeldBack.from_bytes",), lambda value: b"".join(value.to_pieces())),
        Decoder("state on the wire", _state, (ValueError,), (bytes(BEGUN.wire),),
                ("training.model.state:StateLayout.from_bytes",), lambda state: bytes(state.wire)),
        Decoder("model file", lambda data: ModelFile.read(data, PATH), (ModelFileBroken, CardUnfit), _models(),
                ("training.model.file:_header", "training.model.file:_tensors",
                 "training.model.file:ModelFile._check"), factor=400, fixed=MIB),
        Decoder("model card", lambda data: ModelCard.read(data, PATH), (CardUnfit,), _cards(),
                ("training.model.card:_choice",), ModelCard.to_bytes, factor=400, fixed=MIB),
        Decoder("first model", lambda data: first.read_arrays(data, Path(PATH)), (FirstModelUnfit,),
                (first.written({"b": np.ones((2, 3)), "a": np.array(7)}),),
                ("training.model.checkpoint:facts_of",), factor=80),
        Decoder("compression state", _restore, (CompressionMisused,), _states(),
                ("training.compression.nomination:Compressor.restore",), factor=80),
        Decoder("question", lambda data: question_file.parse(data, PATH, AGREED),
                (*OF_A_FILE, QuestionUnfit, WrongQuestion), (QUESTION,), ("node.question_file:parse",), factor=600,
                fixed=2 * MIB),
        Decoder("question counts", QuestionCounts.from_bytes, (Malformed,), _question_counts(),
                ("node.runs.question_counts:QuestionCounts.from_bytes",),
                lambda found: b"".join(map(bytes, found.to_bytes())), factor=80, fixed=2 * MIB),
        Decoder("years of retention", retention.parse_years, (Malformed,), (codec.facts({"models": 1, "ledger": 6}),),
                ("node.retention:parse_years",), codec.facts, factor=80),
        Decoder("keys that were revoked", revocations.parse_decisions, (Malformed,),
                (b"", revocations.packed({bytes(32): 1, bytes([7]) * 32: 2})),
                ("node.revocations:parse_decisions",), revocations.packed, factor=80),
        Decoder("who withdrew", lambda data: Withdrawn.from_bytes(Secret(bytes(32)), data), (Malformed,),
                (b"", np.array([3, 5, 8], "<u8").tobytes()), ("training.records.withdrawn:Withdrawn.from_bytes",),
                Withdrawn.to_bytes, factor=80),
        Decoder("answer", answers.read_answer, (Malformed,), _answers(), ANSWER_READERS,
                lambda found: b"".join(map(bytes, answers.packed(found))), factor=80),
        Decoder("what an answer is made of", answers._head, (Malformed,), _heads_of_answers(),
                ("node.runs.answers:_head", "node.runs.answers:_masked"), _head_again, factor=80),
        Decoder("task's letter", lambda data: wire_of_tasks.read_letter(data, wire_of_tasks.TOLD, MIB), (Malformed,),
                (codec.pack((1, "step", 2, 9)), codec.pack((2, "done", b"\x90")),
                 codec.pack((3, "fault", "P2P-TRAIN-034", "in line", [["kind", "KeyError"], ["where", "own.py:3"]]))),
                ("training.process.wire:read_letter",), factor=80),
        Decoder("task's facts", lambda data: wire_of_tasks.read_fields(data, "split"), (Malformed,),
                (codec.pack(("own", [["weight", [1, 4]]], bytes(32), 260, [], "4.0", [4], [], 30, 1)),),
                ("training.process.wire:read_fields",), factor=80, fixed=16 * MIB),
        Decoder("task's figures", lambda data: wire_of_tasks.read_fields(data, "figures"), (Malformed,),
                (codec.pack(([["auc", bytes(24)]],)),), (), factor=80, fixed=16 * MIB),
        Decoder("account", Account.from_bytes, (AccountUnreadable,), _accounts(), (), Account.to_bytes, factor=80),
        Decoder("accounts", Accounts.from_bytes, (AccountUnreadable,), _all_accounts(),
                ("training.privacy.accounts:Accounts.from_bytes", "training.privacy.accounts:_group"),
                lambda value: b"".join(value.to_bytes()), factor=80, fixed=2 * MIB),
        Decoder("state of a noised sum", _restore_noised, (CompressionMisused,), _noised_states(),
                ("training.compression.noised_sum:NoisedSum.restore",), factor=80),
        Decoder("lowrank state", _restore_lowrank, (CompressionMisused,), _lowrank_states(),
                ("training.compression.lowrank:Lowrank.restore",), factor=200),
        Decoder("support", lambda data: compression.decode_support(data, 1000, 50, "mayo"), (SupportMalformed,),
                (compression.encode_support(np.array([0, 5, 999], np.int64)), compression.encode_support(
                    np.arange(50, dtype=np.int64) * 19)),
                ("training.compression.nomination:decode_support",), compression.encode_support, factor=80),
        *(Decoder(f"words of {bits} bits", functools.partial(field.from_bytes, peer="mayo"),
                  (WordOutOfRange, WordsMissized), (bytes(field.word_bytes * 9), bytes(range(field.word_bytes)) * 4),
                  ("sharing.field:Field.from_bytes",), field.to_bytes) for bits, field in FIELDS.items()),
    )  # fmt: skip


def _models() -> tuple[bytes, ...]:
    tables = [TableSchema.parse(raw, PATH) for raw in (DESCRIBED, *federation_sample.LABELLED)]
    return (made(), *map(made, tables), checkpoint.to_bytes(np.arange(8, dtype=np.float32), MANY))


def _cards() -> tuple[bytes, ...]:
    return tuple(found.card.to_bytes() for one in _models() if (found := ModelFile.read(one, PATH)).card is not None)


def _certificates() -> tuple[bytes, ...]:
    votes = [paper.by(name, messages.Ballot(1, D, V, paper.names, ())).wire for name in paper.names]
    against = [paper.by(name, messages.Ballot(0, b"", b"", (), ("site-1",))).wire for name in paper.names]
    held = [messages.Certificate(tuple(votes), MEMBERS.wire), messages.Certificate(tuple(against), b"")]
    return tuple(_bodies(paper.by("site-1", one).wire) for one in held)


def _proofs() -> tuple[bytes, ...]:
    """One of each kind that convicts."""
    deal, misdeal = paper.deal(LIAR), paper.deal(LIAR, opens=bytes(32))
    summed = paper.by("site-0", messages.SumDigest(D, 0, bytes(32), liars.roots_digest(liars.ROOTS)))
    letters = (
        (paper.by(LIAR, messages.Ready(D, V)), paper.by(LIAR, messages.Ready(D, bytes(32)))),
        (deal.bundle, paper.by(LIAR, messages.Nonce(V, bytes(32)))),
        (MEMBERS, liars.ROOTS[2], liars.tags(LIAR, lie=True), liars.opened(LIAR)),
        (MEMBERS, summed, *liars.ROOTS, *map(liars.opened, paper.names)),
        (misdeal.bundle, paper.backup("site-0", misdeal), paper.backup("site-1", misdeal)),
    )
    return tuple(_bodies(*(one.wire for one in each)) for each in letters)


DECODERS: Final = _table()

# Functions that read bytes which nobody else wrote, or whose form somebody has checked before: they need no row.
OWN: Final = {
    "training.distributed:LeadingTrainer._tell_records": "a hash that was made here",
    "training.process.boot:_receive": "paths that this site's own node sends",
    "ledger.entry:own_facts": "records of this home's own log, judged before they were appended",
    "node.durable_logs:DurableLogs.bases": "records of this home's own log, read and checked when it was opened",
    "node.durable_logs:DurableLogs.final_rounds": "the same",
    "node.logs:Logs.model_after": "the same",
    "sharing.catchup:CatchUpRules.rows_that_count": "records that check_rows has passed, and that q sites signed",
    "sharing.catchup:newest_rounds": "the same",
    "cli.run:setting": "an argument of this command line",
    "cli.ports:_bind": "a random number of this process",
    "cli.demo.peers:Child.facts": "the last line of a process that this one started",
    "cli.demo.peers:Children._read_log": "lines of a process that this one started",
    "cli.ledger.show:show": "records of this home's own log",
    "node.live:read_traffic": "a sealed item of this home; what has another form counts as none",
    "node.runs.metric:read_curves": "the same (tests/cli/test_report.py)",
    "report.facts:_sites": "keys in records that entry.read_record has passed",
    "report.study:safeguards": "a file of this package",
    "keys:fingerprint": "a hash",
    "ledger.verify:_signatures": "a record that entry.read_record has passed",
    "federation.membership:Lineage.joiners": "a record that Lineage.check_change has passed, or this site's own",
    "mesh.dialer:Backoff.pause": "this process's own random bytes",
    "node.runs.models:Models.skip_to": "a record that q sites signed",
    "sharing.digests:leaving_draw": "a hash",
    "node.site_index:SiteIndex.charges": "the same",
    "node.site_index:SiteIndex.looks": "the same",
    "node.site_index:SiteIndex.revocations": "this site's own log",
    "training.privacy.accounts:mark_of_each": "hashes that were made here",
    "node.runs.cohort:mark_of": "a key that was derived here, and this site's own numbers",
    "node.runs.sums:_uniform": "this process's own random bytes",
    "sharing.phases.fetch:want": "this process's own incarnation",
    "sharing.prg:Stream.__init__": "a keystream",
    "sharing.prg:Stream._words_at": "a keystream",
    "sharing.record:said": "this site's own record",
    "sharing.room:MemoryBlock.wipe": "memory of this process",
    "sharing.room:Pool.take": "memory of this process",
    "sharing.room:Room.first": "memory of this process",
    "sharing.room:Room.last": "memory of this process",
    "sharing.room:Room.numbers": "memory of this process",
    "sharing.round:Round.finished": "the keepsake in this site's own home",
    "sharing.shamir:combine": "shares of the size that the schema fixes, each checked by its path",
    "sharing.shamir:split": "a secret of this process",
    "simulate.peer:VirtualDisk.announced": "the simulator's own ledger",
    "simulate.peer:VirtualDisk.bases": "the same",
    "simulate.peer:VirtualDisk.model": "the same",
    "training.noise.bit_stream:BitStream.words": "a keystream",
    "training.tasks.pretrained:_safetensors": "a file whose digest the sites agreed on, read by the library",
    "training.records.records:held_out": "keyed hashes that were computed here",
    "training.records.records:owners_of": "hashes that were computed here",
    "training.process.remote:RemoteTrainer.evaluate": "fields that read_fields has passed, of a length that is checked",
    "training.process.remote:RemoteTrainer.figures": "fields that read_fields has passed: 24 bytes each",
    "training.process.wire:Wire.receive": "a length, and a letter for read_letter",
    "training.process.worker:Worker.evaluate": "memory that the node has filled",
    "training.process.worker:Worker.figures": "bytes of the node",
    "training.process.worker:Worker.inputs": "memory that the node has filled",
    "training.process.worker:Worker.predict": "the same",
    "training.process.worker:Worker.split": "the same",
    "training.process.worker:Worker.train": "the same",
    "node.link_status:read": "what a process of this home has sealed itself",
}
