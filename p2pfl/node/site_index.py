"""What rounds ask of a site log, kept as its entries come: each is read once, however many rounds there are.

A record is canonical, so one of a kind holds the kind's bytes as they stand here: the others are not even parsed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Final, Protocol

from p2pfl import codec
from p2pfl.ledger.entry import Entry, own_facts

ASKED_FOR: Final = re.compile(rb'"kind":"(?:abandoned|acts|charge|look|missed|operator|query)"')
REVOKE: Final = "peers revoke"
WITHDRAW: Final = "withdraw"
ASK: Final = "stats ask"
COUNTED: Final = "counted"  # an option of it: how many questions of the home were, over all its studies
GO_ON: Final = "go-on"  # the option of `p2pfl join`, and what the site log says of it


class EntriesInOrder(Protocol):
    """A log, or a list of its entries: what has been read of it stands."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Entry: ...


class SiteIndex:
    """Charges, queries, rounds that were missed; of one site log."""

    def __init__(self, log: EntriesInOrder) -> None:
        self._log, self._read = log, 0
        self._charged = 0.0
        self._charges: Counter[str] = Counter()
        self._looks: Counter[str] = Counter()
        self._over: dict[tuple[str, int], int] = {}  # by run and round: the last attempt that was abandoned
        self._queries: dict[str, list[codec.Facts]] = defaultdict(list)  # by what names the data
        self._missed: dict[str, dict[int, str]] = defaultdict(dict)  # by run and round: who named a set without us
        self._looked: dict[str, int] = {}  # by run: the last round of which an operator has seen that
        self._revocations: Counter[str] = Counter()  # by key: how often it was revoked, or accepted again
        self._withdrawn, self._questions = 0, 0

    def charged(self) -> float:
        """The largest epsilon that a charge came to."""
        self._go_on()
        return self._charged

    def charges(self) -> Counter[bytes]:
        """By run, how many passes were charged."""
        self._go_on()
        return Counter({bytes.fromhex(run): count for run, count in self._charges.items()})

    def looks(self) -> Counter[bytes]:
        """By run, how many looks were charged."""
        self._go_on()
        return Counter({bytes.fromhex(run): count for run, count in self._looks.items()})

    def standing(self, marks: Collection[str]) -> Iterator[codec.Facts]:
        """Queries of these data that were answered, or may still be: not those whose attempt was abandoned.

        Attempt k + 1 begins on the abandonment of k alone, so that of k frees every attempt of its round up to k.
        """
        self._go_on()
        for mark in sorted(marks):
            for facts in self._queries.get(mark, ()):
                if facts["attempt"] > self._over.get((facts["run"], facts["round"]), -1):
                    yield facts

    def missed(self, run: bytes) -> dict[int, str]:
        """By round of `run` that went without this site although it was there, who named the set."""
        self._go_on()
        return self._missed.get(run.hex(), {})

    def looked(self, run: bytes) -> int:
        """The last round of `run` of which this site's operator has seen that; 0 for none."""
        self._go_on()
        return self._looked.get(run.hex(), 0)

    def revocations(self) -> dict[bytes, int]:
        """By key, how often this site revoked it, or accepted it again."""
        self._go_on()
        return {bytes.fromhex(key): count for key, count in self._revocations.items()}

    def withdrawn(self) -> int:
        """How many records and patients it tells of whose consent was withdrawn."""
        self._go_on()
        return self._withdrawn

    def questions(self) -> int:
        """How many questions of the home were counted, over all its studies, when this log said so last."""
        self._go_on()
        return self._questions

    def _go_on(self) -> None:
        """Read what has been appended since."""
        while self._read < len(self._log):
            entry = self._log[self._read]
            if ASKED_FOR.search(entry.record):
                self._take(own_facts(entry))
            self._read += 1

    def _take(self, facts: codec.Facts) -> None:
        match facts["kind"]:
            case "charge":
                self._charged = max(self._charged, float(facts["after"]))
                self._charges[facts["run"]] += 1
            case "look":
                self._looks[facts["run"]] += facts["charged"]
            case "query":
                self._queries[facts["data"]].append(facts)
            case "abandoned":
                place = (facts["run"], facts["round"])
                self._over[place] = max(facts["attempt"], self._over.get(place, -1))
            case "missed":
                self._missed[facts["run"]][facts["round"]] = facts["coordinator"]
            case "operator":
                self._take_act(facts["command"], facts["options"])
            case "acts":
                for act in facts["acts"]:
                    self._take_act(act["command"], act["options"])

    def _take_act(self, command: str, options: codec.Facts) -> None:
        if "run" in options:
            self._looked[options["run"]] = options.get(GO_ON, self._looked.get(options["run"], 0))
        elif command == REVOKE:
            self._revocations[options["key"]] += 1
        elif command == WITHDRAW:
            self._withdrawn += int(options.get("records", 0))
        elif command == ASK:
            self._questions = max(self._questions, int(options.get(COUNTED, 0)))
