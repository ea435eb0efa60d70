"""What passes on an interface, as a stranger there sees it: every TCP stream, put together, and read as TLS.

    python -m tests.network.capture INTERFACE FILE

records until its standard input ends, and then says how many packets the kernel had no room for. The rest of this file
reads what was recorded, and knows nothing of p2pfl: only RFC 9293 and RFC 8446.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks._links import Place
from tests.end_to_end.processes import PATIENCE_S, ROOT

ALL_PROTOCOLS: Final = 0x0003
ROOM: Final = 64 << 20
LENGTH: Final = struct.Struct("!I")
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6  # of Linux; Python's socket has no names for them
CONTENT: Final = {20: "change_cipher_spec", 21: "alert", 22: "handshake", 23: "application_data"}
HANDSHAKE, CLIENT_HELLO, SERVER_HELLO = 22, 1, 2
SUPPORTED_VERSIONS: Final = 43
TLS_1_2, TLS_1_3 = 0x0303, 0x0304

Flow = tuple[str, int, str, int]  # from whom, port, to whom, port


class NotTls(AssertionError):
    """A stream that is anything but TLS 1.3; says where."""


# ── recording ─────────────────────────────────────────────────────────────────────────────────────────────────


def record(interface: str, file: Path) -> None:
    """Write every packet that passes on `interface`, each behind its length, until standard input ends."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap, file.open("wb") as kept:
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        tap.bind((interface, 0))
        tap.settimeout(0.2)
        print("recording", flush=True)
        ends = _Ends()
        while not ends.came:
            with contextlib.suppress(TimeoutError):
                packet = tap.recv(1 << 17)
                kept.write(LENGTH.pack(len(packet)) + packet)
        statistics = tap.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        print(struct.unpack("II", statistics)[1], flush=True)


class _Ends:
    """Whether standard input has ended."""

    def __init__(self) -> None:
        self.came = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        sys.stdin.read()
        self.came = True


@contextlib.contextmanager
def recorded(place: Place, file: Path) -> Iterator[None]:
    """Record what passes on the interface of a place while the block runs. Fails when a packet was missed."""
    command = [*place.prefix, sys.executable, "-m", "tests.network.capture", place.interface, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as tap:
        try:
            assert tap.stdout is not None and tap.stdout.readline() == "recording\n"
            yield
            missed, _ = tap.communicate(timeout=PATIENCE_S)
            assert missed.strip() == "0", f"{missed} packets were missed"
        finally:
            tap.kill()


# ── TCP ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Stream:
    """One direction of one connection: the bytes by their place behind the SYN."""

    first: int | None = None  # the number of the SYN
    pieces: dict[int, bytes] = field(default_factory=dict)

    def whole(self) -> bytes:
        """All bytes in order; what was sent again is there once. Fails where some were never seen."""
        data = bytearray()
        for place in sorted(self.pieces):
            assert place <= len(data), f"bytes {len(data)} to {place} of a stream were not recorded"
            data += self.pieces[place][len(data) - place :]
        return bytes(data)


def streams(file: Path) -> dict[Flow, bytes]:
    """Every direction of every TCP connection over IPv4 that began while it was recorded."""
    found: dict[Flow, Stream] = {}
    data = file.read_bytes()
    at = 0
    while at + LENGTH.size <= len(data):
        (size,) = LENGTH.unpack_from(data, at)
        _take(found, data[at + LENGTH.size : at + LENGTH.size + size])
        at += LENGTH.size + size
    return {flow: stream.whole() for flow, stream in found.items() if stream.first is not None}


def _take(found: dict[Flow, Stream], packet: bytes) -> None:
    if packet[12:14] != b"\x08\x00" or packet[23] != socket.IPPROTO_TCP:
        return
    header = 4 * (packet[14] & 15)
    total = int.from_bytes(packet[16:18], "big") or len(packet) - 14
    segment = packet[14 + header : 14 + total]
    source, target, number = struct.unpack_from("!HHI", segment)
    flow = (socket.inet_ntoa(packet[26:30]), source, socket.inet_ntoa(packet[30:34]), target)
    stream = found.setdefault(flow, Stream())
    if segment[13] & 2:  # SYN
        if stream.first not in (None, number):  # the same ports again
            found[flow] = stream = Stream()
        stream.first = number
    payload = segment[4 * (segment[12] >> 4) :]
    if payload and stream.first is not None:
        place = (number - stream.first - 1) & 0xFFFFFFFF
        if len(payload) > len(stream.pieces.get(place, b"")):
            stream.pieces[place] = payload


# ── TLS ───────────────────────────────────────────────────────────────────────────────────────────────────────


def records(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, version, fragment) of each record; the last may be cut. Raises NotTls for a byte that is in none."""
    at = 0
    while at < len(stream):
        if len(stream) - at < 5:
            return
        kind, version, size = struct.unpack_from("!BHH", stream, at)
        if kind not in CONTENT or size > (16 << 10) + 256:
            raise NotTls(f"byte {at}: {stream[at : at + 16].hex(' ')}")
        if version != TLS_1_2 and not (at == 0 and kind == HANDSHAKE and version == 0x0301):  # RFC 8446 §5.1
            raise NotTls(f"byte {at}: a record of version {version:#06x}")
        yield kind, version, stream[at + 5 : at + 5 + size]
        at += 5 + size


def chosen_version(hello: bytes) -> int:
    """The version that a ServerHello chooses: of its extension, else the one of its head (RFC 8446 §4.1.3, §4.2.1)."""
    if hello[0] != SERVER_HELLO:
        raise NotTls(f"handshake message {hello[0]} where a ServerHello belongs")
    at = 4 + 2 + 32
    at += 1 + hello[at] + 2 + 1  # session id, cipher suite, compression
    end = at + 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 2
    while at < end:
        kind, size = struct.unpack_from("!HH", hello, at)
        if kind == SUPPORTED_VERSIONS:
            return int.from_bytes(hello[at + 4 : at + 6], "big")
        at += 4 + size
    return int.from_bytes(hello[4:6], "big")


def read_as_tls(found: dict[Flow, bytes]) -> int:
    """Check that every stream is TLS 1.3 from its first byte to its last; how many connections there were.

    In each, one end begins with a ClientHello and the other with a ServerHello that chooses 1.3; what follows is
    encrypted: of type application_data, beside the change_cipher_spec that RFC 8446 §D.4 sends for the sake of old
    boxes, and an alert of an end that refuses before it has keys. Raises NotTls.
    """
    servers = 0
    for flow, stream in found.items():
        if not stream:
            continue
        (kind, _, hello), *rest = list(records(stream))
        if kind != HANDSHAKE:
            raise NotTls(f"{flow} begins with a record of {CONTENT[kind]}")
        if hello[0] != CLIENT_HELLO:
            servers += 1
            if (version := chosen_version(hello)) != TLS_1_3:
                raise NotTls(f"{flow} chooses version {version:#06x}")
        clear = [CONTENT[kind] for kind, _, _ in rest if kind == HANDSHAKE]
        if clear:
            raise NotTls(f"{flow}: {len(clear)} handshake records in the clear behind its hello")
    return servers


if __name__ == "__main__":
    record(sys.argv[1], Path(sys.argv[2]))
