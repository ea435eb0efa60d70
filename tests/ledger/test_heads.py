"""Heads as text, and who may cosign one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from p2pfl import merkle
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.ledger.note import Head
from p2pfl.ledger.witness import Reason, may_cosign
from tests.ledger.sample import SITES, federation_records, filled, home, write

LEAVES = [merkle.leaf_hash(bytes([k])) for k in range(40)]


def head(size: int, leaves: list[bytes] = LEAVES, origin: str = "p2pfl/1/site/ucl") -> Head:
    return Head(origin, size, merkle.root_of(leaves[:size]))


def proof_of(leaves: list[bytes], old: int) -> tuple[bytes, ...]:
    tree = merkle.Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.consistency(old)


@given(old=st.integers(0, 40), new=st.integers(0, 40))
def test_a_witness_lets_a_log_grow_and_never_shrink(old: int, new: int) -> None:
    proof = proof_of(LEAVES[:new], old) if 0 < old <= new else ()
    verdict = may_cosign(head(old), head(new), proof)
    assert verdict.allowed == (new >= old)
    assert (verdict.reason is Reason.ROLLBACK) == (new < old)


@given(old=st.integers(1, 40), new=st.integers(1, 40), changed=st.integers(0, 39))
def test_a_witness_never_cosigns_another_history(old: int, new: int, changed: int) -> None:
    other = [*LEAVES[:changed], merkle.leaf_hash(b"forged"), *LEAVES[changed + 1 :]]
    if changed < old <= new:
        for proof in (proof_of(other[:new], old), proof_of(LEAVES[:new], old), ()):
            verdict = may_cosign(head(old), head(new, other), proof)
            assert verdict.reason is (Reason.FORK if old == new else Reason.UNPROVEN)


def test_a_witness_takes_the_first_head_and_none_of_another_log() -> None:
    assert may_cosign(None, head(5)).reason is Reason.FIRST
    assert may_cosign(head(5), head(5)).reason is Reason.SAME
    assert may_cosign(head(5), head(6, origin="p2pfl/1/site/charite")).reason is Reason.OTHER_LOG
    assert may_cosign(head(0), head(3)).allowed


@given(size=st.integers(0, 10**17), root=st.binary(min_size=32, max_size=32), site=st.sampled_from(list(SITES)))
def test_a_signed_head_parses_to_itself_and_is_its_signers_alone(size: int, root: bytes, site: str) -> None:
    made = Head(note.site_origin(site), size, root, ("federation 1 " + "A" * 43 + "=",))
    text = note.sign(made, site, SITES[site])
    assert note.parse_note(text)[0] == made
    assert [name for name in SITES if note.signed_by(text, name, SITES[name].key)] == [site]
    assert not note.signed_by(text, site, SITES["ucl" if site != "ucl" else "charite"].key)


def test_cosignatures_are_more_lines_under_the_same_text() -> None:
    text = note.sign(head(3), "ucl", SITES["ucl"])
    both = note.cosign(text, "charite", SITES["charite"])
    assert both.startswith(text)
    assert all(note.signed_by(both, name, SITES[name].key) for name in ("ucl", "charite"))
    assert note.parse_note(both)[0] == head(3)


@given(place=st.integers(0, 400), other=st.characters(codec="utf-8"))
def test_a_head_with_any_character_changed_is_not_signed(place: int, other: str) -> None:
    text = note.sign(head(3), "ucl", SITES["ucl"])
    place %= len(text)
    changed = text[:place] + other + text[place + 1 :]
    if changed == text:
        return
    with suppress(ValueError):  # no longer a note
        assert not note.signed_by(changed, "ucl", SITES["ucl"].key)


def test_a_site_logs_head_speaks_of_the_federation_log(tmp_path: Path) -> None:
    with filled(tmp_path) as at:
        federation = Log.open(at, "federation")
        text = Log.open(at, "site").sign_head(at.identity(), federation)
        assert note.federation_of(note.parse_note(text)[0]) == (4, federation.root())
        assert note.federation_of(note.parse_note(federation.latest_head() or "")[0]) is None


def test_the_federation_logs_head_names_the_same_log_at_every_site(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with filled(tmp_path) as one, home(tmp_path / "b") as other:
        write(other, "federation", federation_records())
        heads = [note.parse_note(Log.open(at, "federation").latest_head() or "")[0] for at in (one, other)]
        assert heads[0] == heads[1]
