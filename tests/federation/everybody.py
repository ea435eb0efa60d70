"""A key for which everybody can sign, whoever signs for it, and this program as it was before it refused such keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from p2pfl import keys
from p2pfl.federation import members, membership

KEY = (1).to_bytes(32, "little")  # the neutral point: S·B = R + k·A holds for R = A and S = 0, whatever is signed
SIGNATURE = KEY + bytes(32)


class Anybody(keys.Identity):
    """It holds no private half, and signs as the site that is listed with `KEY`."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.key = KEY

    def sign(self, kind: str, data: bytes) -> bytes:
        return SIGNATURE


@contextmanager
def welcome() -> Iterator[None]:
    """Such keys are read, and signatures under them count. What was found before, or here, is remembered nowhere."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            for place in (keys, members, membership):
                patch.setattr(place, "belongs_to_somebody", lambda key: True)
            _forget()
            yield
    finally:
        _forget()


def _forget() -> None:
    keys._verifier.cache_clear()
    keys.verify_again.cache_clear()
