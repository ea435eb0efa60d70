"""The committed letters are what the generator writes; the library reads the good ones and refuses the others."""

from __future__ import annotations

import json
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from p2pfl import messages
from p2pfl.codec import Malformed
from p2pfl.keys import Identity
from p2pfl.messages import Envelope, Letter, open_letter, read_letter, seal
from p2pfl.roster import Member, Roster
from tests.vectors import generate_wire as wire

Case = dict[str, Any]
DOCUMENT = json.loads((wire.FOLDER / wire.FILE).read_bytes())
CASES: list[Case] = DOCUMENT["cases"]
GOOD = [case for case in CASES if "error" not in case]
BAD = [case for case in CASES if "error" in case]
MEMBERS = tuple(Member(name, bytes.fromhex(key)) for name, key in DOCUMENT["keys"].items())
ROSTER = Roster(DOCUMENT["epoch"], MEMBERS)

# What the refusal says, by the class of its reason.
SAYS = {
    "msgpack": "not msgpack of this form",
    "parts": "three parts",
    "kind": "no message kind",
    "head": "a head that ends too early",
    "bulk": "two parts",
    "tail": "bytes behind it",
    "version": "protocol version",
    "field": "wanted",
    "form": "text of another form",
    "spelling": "shortest encoding",
    "signature": "not signed by",
}


def name(case: Case) -> str:
    return str(case["name"])


def opened(case: Case) -> Letter:
    data = bytes.fromhex(case["data"])
    return open_letter(data, ROSTER, messages.Message) if case["operation"] == "open" else read_letter(data)


def fields(letter: Letter) -> list[Any]:
    return [wire.plain(getattr(letter.message, field)) for field, _ in letter.message.specs]


def test_the_generator_writes_the_committed_file() -> None:
    assert (wire.FOLDER / wire.FILE).read_bytes() == wire.document()


def test_there_is_an_example_of_every_kind_and_a_third_of_all_cases_is_refused() -> None:
    assert {case["kind"] for case in GOOD} == {kind.__name__ for kind in messages.KINDS.values()}
    assert len(BAD) * 3 >= len(CASES)
    assert {case["reason"] for case in BAD} == set(SAYS)


@pytest.mark.parametrize("case", GOOD, ids=name)
def test_a_letter_reads_as_its_fields(case: Case) -> None:
    letter = opened(case)
    place = letter.envelope
    assert type(letter.message).__name__ == case["kind"]
    assert wire.plain(astuple(place)) == case["envelope"]
    assert fields(letter) == case["fields"]


@pytest.mark.parametrize("case", GOOD, ids=name)
def test_sealing_the_same_message_gives_the_same_bytes(case: Case) -> None:
    letter = opened(case)
    again = seal(letter.message, letter.envelope, Identity(wire.filled(f"identity of {letter.sender}")))
    assert again.wire.hex() == case["data"]


@pytest.mark.parametrize("case", BAD, ids=name)
def test_a_wrong_letter_is_malformed_and_the_refusal_says_why(case: Case) -> None:
    with pytest.raises(Malformed, match=SAYS[case["reason"]]):
        opened(case)


def test_a_letter_of_another_kind_than_the_wanted_one_is_malformed() -> None:
    data = bytes.fromhex(next(case["data"] for case in GOOD if case["kind"] == "Ready"))
    with pytest.raises(Malformed, match="Ready where Root belongs"):
        open_letter(data, ROSTER, messages.Root)


def test_a_letter_in_anothers_envelope_does_not_pass_under_its_own_signature() -> None:
    place = Envelope(wire.filled("run"), 1, 12, 2, "mayo", bytes(16))
    forged = seal(messages.Ready(wire.D, wire.V), place, Identity(wire.filled("identity of st-olav")))
    with pytest.raises(Malformed, match="not signed by 'mayo'"):
        open_letter(forged.wire, ROSTER, messages.Message)


# ── what the specification says ───────────────────────────────────────────────────────────────────────────────

SPECIFICATION = (Path(__file__).parents[1] / "docs/spec/wire.md").read_text(encoding="utf-8")
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}


def test_the_specifications_table_has_every_kind_with_its_number_limit_and_fields() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (yes|no) \| (\d+) (KiB|MiB) \| (.*) \|$", SPECIFICATION, re.MULTILINE)
    assert len(rows) == len(messages.KINDS)
    for number, title, signed, size, unit, text in rows:
        kind = messages.KINDS[int(number)]
        assert (title, signed == "yes", int(size) * UNITS[unit]) == (kind.__name__, kind.signed, kind.most)
        places = [text.find(field) for field, _ in kind.specs]
        assert min(places) >= 0, f"{title} lacks a field in the table"
        assert places == sorted(places), f"{title} has its fields in another order"


@pytest.mark.parametrize(("heading", "vector"), [("### 5.1 Example", "a Ready"), ("### 5.2 Example", "a Total")])
def test_the_specifications_example_is_the_vector(heading: str, vector: str) -> None:
    section = re.split(r"^##", SPECIFICATION.split(heading)[1], flags=re.MULTILINE)[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    shown = "".join(re.match(r"(?:[0-9a-f]{2})+(?: (?:[0-9a-f]{2})+)*(?=\s{2}|$)", line)[0] for line in lines)  # type: ignore[index]
    assert shown.replace(" ", "") == next(case["data"] for case in GOOD if case["name"] == vector)
