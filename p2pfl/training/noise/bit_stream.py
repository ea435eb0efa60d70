"""Uniform, Gaussian and Bernoulli draws from a keystream: AES-256-CTR under a key that is used once.

Any call in the process can seed torch's generators, and the same seed gives the same noise, which its knower can
subtract. So noise and samples come from here. There is no seed option, and there must never be one: a test passes
another `draw`. Normal numbers are Box-Muller in float64 over 53-bit uniforms; what remains is that floats
have gaps (Mironov 2012), which the fixed grid of the secure sum hides from everyone but the site itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from p2pfl.keys import KEY_BYTES, Secret, derive

BLOCK_WORDS: Final = 1 << 17  # words of keystream at a time: 1 MiB
TWO_PI: Final = 2.0 * float(np.pi)


class BitStream:
    """An endless stream of uniform bits under HKDF(secret, label, context). Each bit is handed out once."""

    def __init__(self, secret: Secret, label: str, context: bytes = b"") -> None:
        """`secret` has 32 bytes and is fresh for each use of `label`; `label` is a row of keys.LABELS."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a keystream takes {KEY_BYTES} bytes, not {len(secret)}")
        key = derive(secret.reveal(), label, context)
        # The key serves this one stream, so the counter starts at zero.
        self._cipher: CipherContext = Cipher(AES(key), CTR(bytes(16))).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next `count` words, uniform on 0 … 2⁶⁴−1: the stream's bytes, little-endian.    (count,)"""
        out = np.empty(count, dtype="<u8")
        for start in range(0, count, BLOCK_WORDS):
            block = out[start : start + BLOCK_WORDS]
            block[:] = np.frombuffer(self._cipher.update(bytes(8 * len(block))), dtype="<u8")
        return out.astype(np.uint64, copy=False)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """The next `count` numbers on the grid 2⁻⁵³·{0, …, 2⁵³−1}: [0, 1).    (count,)"""
        words = self.words(count)
        np.right_shift(words, np.uint64(11), out=words)
        return words.astype(np.float64) * 2.0**-53

    def normals(self, count: int) -> NDArray[np.float64]:
        """The next `count` standard normal numbers.    (count,) float64. Box and Muller 1958."""
        half = (count + 1) // 2
        radius = 1.0 - self.uniforms(half)  # (0, 1]: the logarithm is finite
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        angle = self.uniforms(half)
        angle *= TWO_PI
        both = np.empty(2 * half)
        np.multiply(radius, np.cos(angle), out=both[:half])
        np.multiply(radius, np.sin(angle), out=both[half:])
        return both[:count]

    def below(self, count: int, probability: float) -> NDArray[np.bool_]:
        """`count` independent draws that are true with `probability`, exact to 2⁻⁶⁴.    (count,)"""
        if not 0.0 < probability <= 1.0:
            raise ValueError(f"{probability} is not a probability above 0")
        threshold = int(probability * 2.0**64)  # exact: a float times a power of two
        words = self.words(count)
        return np.ones(count, dtype=np.bool_) if threshold >= 1 << 64 else words < np.uint64(threshold)
