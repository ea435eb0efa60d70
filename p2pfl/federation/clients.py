"""`task.client`: each site trains by code of its own (Flower, MONAI, scikit-learn); they agree on its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfl.federation.readers import Table, YamlNode, choice, items, text

CLIENTS: Final = ("flower", "monai", "sklearn")
MOST_METRICS: Final = 64
ZEROS: Final = "zeros"

read_kind: Final = choice(*CLIENTS)
read_metric: Final = text(r"[A-Za-z][A-Za-z0-9_.-]{0,40}", "the name of a number that the client returns")


@dataclass(frozen=True, slots=True)
class ClientChoice:
    """What the sites agree on where each brings a client.

    kind      one of CLIENTS
    first     SHA-256 of the file of the first model; None: all zeros, in the shapes that the client has
    metrics   of what a client's evaluation returns, the numbers that are averaged; all others stay at its site
    """

    kind: str
    first: bytes | None
    metrics: tuple[str, ...]

    @classmethod
    def read(cls, row: Table) -> ClientChoice:
        """The keys under `task:`. Raises leaves of errors.federation."""
        row.only(("client", "first", "metrics"))
        kind, metrics = row.value("client", read_kind), row.value("metrics", items(read_metric, MOST_METRICS))
        return cls(kind, row.value("first", _first), metrics)

    @property
    def label(self) -> str:
        """How it is called in a model's file, and by people."""
        return f"{self.kind} client"


def _first(node: YamlNode, key: str) -> bytes | None:
    found = text(rf"{ZEROS}|[0-9a-f]{{64}}", "zeros, or 64 hexadecimal digits, lower case")(node, key)
    return None if found == ZEROS else bytes.fromhex(found)
