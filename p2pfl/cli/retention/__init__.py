"""`p2pfl retention`: what this home keeps how long, and what may go."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

VERBS = {
    "show": "What is kept how long, and from which day on it may go.",
    "set": "Keep a kind of items for another number of years, at this site.",
    "prune": "Delete what is past its time; never a ledger.",
}
retention = Verbs(
    "retention",
    "p2pfl.cli.retention",
    VERBS,
    attributes={"set": "set_"},
    text="What this home keeps how long. Years are counted from the last entry of a study's logs.",
)
