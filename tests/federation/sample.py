"""A peers.yaml of three made-up sites, and its pieces."""

from __future__ import annotations

from p2pfl.federation import draft
from p2pfl.federation.cards import Card
from p2pfl.keys import Identity
from p2pfl.roster import Address

NAMES = ("charite", "st-olav", "uppsala")
IDENTITIES = tuple(Identity(bytes([index]) * 32) for index in (1, 2, 3))
CARDS = tuple(
    Card.sign(identity, name, [Address("10.0.0.1", 7000 + index)])
    for index, (identity, name) in enumerate(zip(IDENTITIES, NAMES, strict=True))
)
TABLE = b"""\
columns:
  age: {number: years, low: 0, high: 120, centre: 50, scale: 30}
  sex: {code: [female, male]}
label:
  ill: {binary: ["no", "yes"], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
"""
ASKED = b"""\
asked:
  months: {number: months, low: 0, high: 240, zero_is_missing: true}
  died: {code: [alive, dead]}
"""  # what a table may have behind the rest
LABELLED = tuple(  # the same with labels of other kinds
    TABLE.replace(b'ill: {binary: ["no", "yes"], positive: ["yes"]}', row)
    for row in (
        b"grade: {class: [low, middle, high]}",
        b"HbA1c: {number: mmol/mol, low: 10, high: 200, centre: 40, scale: 10}",
        b"months: {time: months, high: 240, grid: [12, 24]}\n  died: {event: [alive, dead], positive: [dead]}",
    )
)
TASK = draft.description_lines(TABLE, "task.yaml")


def peers_yaml(*overrides: str) -> bytes:
    return draft.peers_file("trial", [card.member for card in CARDS], TASK, overrides)


def replaced(old: str, new: str) -> bytes:
    """The sample with one piece of text changed, which must be there exactly once."""
    text = peers_yaml().decode()
    if text.count(old) != 1:
        raise ValueError(f"{old!r} stands there {text.count(old)} times")
    return text.replace(old, new).encode()
