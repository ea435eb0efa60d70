"""What every decoder promises of any bytes at all; the one check that all three ways of making bytes share."""

from __future__ import annotations

import tracemalloc

from tests.fuzz.decoders import Decoder


class Broken(AssertionError):
    """A decoder did what its row of the table does not allow."""


def accepts(decoder: Decoder, data: bytes) -> bool:
    """Decoded, and then of one encoding where that is promised; or refused by a named error. Raises Broken."""
    try:
        value = decoder.decode(data)
    except decoder.refusals:
        return False
    except Exception as error:
        shown = f"{decoder.name} raises {type(error).__name__}: {error} ({len(data)} bytes: {data[:200]!r})"
        raise Broken(shown) from error
    written = decoder.again(value) if decoder.again is not None else None
    if written is not None and written != data:
        raise Broken(f"{decoder.name} reads two encodings of one value: {data[:200]!r} and {written[:200]!r}")
    return True


def peak_of(decoder: Decoder, data: bytes) -> int:
    """The most bytes that reading `data` held at a time, beside what was held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        accepts(decoder, data)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def bounded(decoder: Decoder, data: bytes) -> None:
    """Reading took memory for what came, not for what it claimed. Raises Broken."""
    peak, most = peak_of(decoder, data), decoder.factor * len(data) + decoder.fixed
    if peak > most:
        raise Broken(f"{decoder.name} took {peak} bytes for {len(data)}, at most {most}: {data[:200]!r}")
