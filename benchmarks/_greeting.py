"""The greeting of a mesh that is measured by itself, without a node: it says nothing and admits every member."""

from __future__ import annotations


class Open:
    """Greets with nothing and admits every member."""

    def greeting(self, peer: str, nonce: bytes) -> bytes:
        return b""

    def admit(self, peer: str) -> None:
        return

    async def check_greeting(self, peer: str, greeting: bytes, nonce: bytes) -> None:
        return
