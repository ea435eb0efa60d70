"""Algorithm: what every kind of client is mapped onto. Arrays in, arrays out, and perhaps numbers that judge them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from numpy.typing import NDArray

from p2pfl.errors import P2PFLError
from p2pfl.errors.adapters import ClientFailed

Arrays = dict[str, NDArray[Any]]
KINDS: Final = "fiub"  # of numpy, that can be averaged; integers and truth values are rounded
Settings = Mapping[str, bool | float | int | str]


@dataclass(frozen=True, slots=True)
class Judged:
    """How arrays do at a site: over `examples` of its records, the numbers `metrics`."""

    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a client's training gave: arrays in the names, order and shapes of those that it got.

    metrics   what the client says of it; it stays at the site
    """

    arrays: Arrays
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Algorithm(Protocol):
    """One site's client.

    kind        flower, monai or sklearn
    reference   how the person named it, for errors
    """

    kind: str
    reference: str

    def first(self) -> Arrays:
        """The arrays with which the client would begin by itself: their names, shapes and types count."""

    def fit(self, arrays: Arrays, number: int) -> Fitted:
        """Train from `arrays` in round `number`, from 1, of those that are in the model."""

    def evaluate(self, arrays: Arrays, number: int) -> Judged:
        """Judge `arrays` on the site's own records."""

    def finish(self) -> None:
        """Nothing more is asked of it."""


@contextmanager
def asked(algorithm: Algorithm, what: str) -> Iterator[None]:
    """Whatever the client's code raises becomes ClientFailed: type and place, and never its text.

    An exception's text may hold a value of a record.
    """
    try:
        yield
    except P2PFLError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = next((one for one in reversed(frames) if "site-packages" not in one.filename), frames[-1])
        evidence = f"{type(error).__name__} at {at.filename}, line {at.lineno}, in {at.name}"
        raise ClientFailed(kind=algorithm.kind, reference=algorithm.reference, what=what, evidence=evidence) from error
