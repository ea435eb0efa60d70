"""Out through the hospital's own HTTP proxy: CONNECT (RFC 9110 §9.3.6), and its refusals as named errors.

The proxy sees the requested name and port, and TLS records; it resolves the names. It may ask for a name and password
(Basic, RFC 7617), which come from the environment or from a file that only its owner can read, never from argv.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from p2pfl.errors import P2PFLError
from p2pfl.errors.paths import NotAProxy, ProxyFails, ProxyForbids, ProxyWantsPassword, WrongProxy
from p2pfl.files import opened
from p2pfl.keys import Secret
from p2pfl.mesh.no_proxy import EMPTY, NoProxy
from p2pfl.mesh.tls_errors import printable
from p2pfl.roster import Address

VARIABLE: Final = "P2PFL_PROXY"
ANSWER_BYTES: Final = 16 << 10  # status line and header
PASSWORD_BYTES: Final = 4096
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r\n")


@dataclass(frozen=True, slots=True)
class Proxy:
    """The proxy's address, `name:password` if it wants them, and the addresses that are reached without it."""

    address: Address
    credentials: Secret | None = None
    no_proxy: NoProxy = EMPTY

    @classmethod
    def parse(cls, text: str, credentials: Secret | None = None, *, argument: bool = False) -> Proxy:
        """`http://HOST:PORT`, or with `NAME:PASSWORD@` where it is no command-line argument. Raises WrongProxy."""
        try:
            parts = urlsplit(text)
            if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
                raise ValueError("it is not http://HOST:PORT")
            user, _, place = parts.netloc.rpartition("@")
            address = Address.parse(place)
        except ValueError as reason:
            if "@" in text:  # any part of it may belong to a password
                raise WrongProxy(text="What was given", evidence="it is not http://NAME:PASSWORD@HOST:PORT") from None
            raise WrongProxy(text=repr(printable(text, 100)), evidence=str(reason)) from None
        if user and argument:
            raise WrongProxy(text="What was given", evidence="a name and a password stand in it")
        if user:
            name, _, password = user.partition(":")
            credentials = Secret(f"{unquote(name)}:{unquote(password)}".encode(), "proxy password")
        return cls(address, credentials)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], credentials: Secret | None = None) -> Proxy | None:
        """The proxy of P2PFL_PROXY with the list of NO_PROXY; None when the former is not set. Raises WrongProxy."""
        text = environment.get(VARIABLE, "")
        return cls.parse(text, credentials).with_no_proxy(environment) if text else None

    def with_no_proxy(self, environment: Mapping[str, str]) -> Proxy:
        """The same proxy, passed by for the addresses that NO_PROXY lists."""
        return replace(self, no_proxy=NoProxy.from_environment(environment))

    async def open(self, sock: socket.socket, address: Address, peer: str) -> None:
        """Make `sock`, which is connected to the proxy, end at `address`.

        Raises ProxyWantsPassword, ProxyForbids, ProxyFails, NotAProxy; OSError.
        """
        loop = asyncio.get_running_loop()
        lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
        if self.credentials is not None:
            lines.append("Proxy-Authorization: Basic " + base64.b64encode(self.credentials.reveal()).decode())
        await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while _END not in answer:
            got = await loop.sock_recv(sock, 4096)
            answer += got
            if not got or len(answer) > ANSWER_BYTES or not b"HTTP/1.".startswith(answer[:7]):
                raise self._no_proxy(answer, "it closed the connection" if not got else "no end of a header")
        found = _STATUS.match(answer)
        if found is None:
            raise self._no_proxy(answer, "no status line")
        status, reason = int(found[1]), printable((found[2] or b"").decode("latin-1"), 100)
        if not 200 <= status < 300:
            raise self._refusal(status, f"it answers {status} {reason}".rstrip(), address, peer)
        if not answer.endswith(_END) or answer.index(_END) + len(_END) != len(answer):
            raise self._no_proxy(answer, "it speaks before this site has")  # in TLS the dialling end speaks first

    def _refusal(self, status: int, evidence: str, address: Address, peer: str) -> P2PFLError:
        if status == 407:
            given = "with" if self.credentials is not None else "without"
            return ProxyWantsPassword(proxy=self.address, evidence=f"{evidence}, asked {given} a name and a password")
        kind = ProxyFails if status >= 500 else ProxyForbids
        return kind(proxy=self.address, address=address, peer=peer, evidence=evidence)

    def _no_proxy(self, answer: bytes, why: str) -> P2PFLError:
        shown = ascii(answer[:16].decode("latin-1"))
        evidence = f"{why} after {len(answer)} bytes" + (f", the first are {shown}" if answer else "")
        return NotAProxy(proxy=self.address, evidence=evidence)


def password_from(path: Path) -> Secret:
    """`NAME:PASSWORD` from a file that nobody else can read. Raises WrongProxy."""
    try:
        with opened(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise WrongProxy(text=path, evidence=f"its mode is {mode:04o}, 0600 is wanted")
            text = file.read(PASSWORD_BYTES + 1).strip()
    except OSError as error:
        raise WrongProxy(text=path, evidence=str(error.strerror)) from None
    if b":" not in text or b"\n" in text or len(text) > PASSWORD_BYTES:
        raise WrongProxy(text=path, evidence="it does not hold one line NAME:PASSWORD")
    return Secret(text, "proxy password")
