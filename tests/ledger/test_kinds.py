"""Each kind of entry is stated once: a class without a form for a field, or a second one of a kind, cannot be made."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from p2pfl.codec import read_facts
from p2pfl.ledger.entry import KINDS, UnknownKind, entry_of, read_record
from p2pfl.ledger.kind import WHOLE, Kind, entry_kind, holds, may_hold
from tests.federation.changes import all_three as a_change
from tests.ledger.sample import federation_records, site_records


@pytest.mark.parametrize("record", [*(row[0] for row in federation_records(2)), *(row[0] for row in site_records(6))])
def test_an_entry_that_is_read_has_the_bytes_that_it_was_read_from(record: bytes) -> None:
    assert entry_of(read_facts(record)).record == record


def test_a_field_that_only_some_entries_have_is_left_out_of_the_others() -> None:
    """`agreement` of a change: there only when somebody joins under one."""
    held = a_change().facts
    assert "agreement" not in held
    assert entry_of(held).record == a_change().record
    signed = {**held, "agreement": "ab" * 32}
    assert read_facts(entry_of(signed).record) == signed


def test_a_field_without_a_form_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wish\.what has no form"):

        @entry_kind("wish", log="site")
        @dataclass(frozen=True, slots=True, kw_only=True)
        class Wish(Kind):
            what: str

    assert "wish" not in KINDS


def test_a_second_class_of_a_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="round is a kind already"):

        @entry_kind("round", log="site")
        @dataclass(frozen=True, slots=True, kw_only=True)
        class Again(Kind):
            number: int = holds(WHOLE)
            more: int | None = may_hold(WHOLE)

    assert KINDS["round"].in_log == "federation"


def test_facts_of_no_known_kind_are_unsupported() -> None:
    with pytest.raises(UnknownKind):
        read_record(b'{"kind":"weather"}')
    with pytest.raises(UnknownKind):
        entry_of({"kind": "weather"})
