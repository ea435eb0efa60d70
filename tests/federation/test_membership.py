"""From one roster to the next: what a change must hold, who must have signed it, where it stands in a ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from p2pfl.codec import Malformed, facts
from p2pfl.federation.membership import Change, Epochs, Lineage
from p2pfl.keys import verify
from tests.federation import everybody
from tests.federation.changes import (
    AGREEMENT,
    IDENTITIES,
    NAMES,
    all_three,
    change,
    federation,
    lineage,
    member,
    new_keys,
    next_file,
    old_keys,
    round_row,
    two_epochs,
    with_agreement,
)

OLD = federation()
HERE = lineage(OLD)


def altered(made: Change, **fields: object) -> Change:
    """The same signers put their names under another record."""
    record = facts({**json.loads(made.record), **fields})
    return Change(record, {name: IDENTITIES[name].sign("membership", record) for name in made.signatures})


def test_a_change_that_a_quorum_signed_makes_the_next_roster() -> None:
    made = all_three(NAMES[:4])
    after = HERE.after(made)
    assert after.roster.epoch == 2
    assert after.roster.names == ("ada", "ben", "cyd", "dot", "fay")
    assert after.roster["ben"].key == IDENTITIES["ben again"].key
    assert (after.first, after.genesis) == (OLD.digest, HERE.genesis)
    assert after.digests == (OLD.digest, made.federation().digest)


@pytest.mark.claim("MEMBER-1")
def test_one_signature_less_than_the_quorum_is_too_few() -> None:
    made = all_three(NAMES[:3])
    assert HERE.lacking(made) == "1 more signature (3 of 4 there)"
    with pytest.raises(Malformed, match="3 of 4"):
        HERE.after(made)


@pytest.mark.claim("MEMBER-1")
def test_the_quorum_is_the_old_epochs_and_so_are_its_keys() -> None:
    made = change(OLD, HERE, NAMES[:3], add=[member("fay")])
    assert HERE.lacking(made.sign(IDENTITIES["fay"], "fay"))  # a newcomer has no say yet
    assert HERE.lacking(made.sign(IDENTITIES["ben again"], "dot"))  # nor has a key that is not listed
    assert not HERE.lacking(made.sign(IDENTITIES["dot"], "dot"))


@pytest.mark.claim("MEMBER-1")
def test_a_signature_of_another_kind_does_not_count() -> None:
    made = change(OLD, HERE, NAMES[:3], remove=["eve"])
    other = {**made.signatures, "dot": IDENTITIES["dot"].sign("record", made.record)}
    assert HERE.lacking(Change(made.record, other)) == "1 more signature (3 of 4 there)"


@pytest.mark.claim("MEMBER-6")
def test_another_key_needs_the_one_that_it_replaces() -> None:
    without = all_three(("ada", "cyd", "dot", "eve"))
    assert HERE.lacking(without) == "no signature of ben with the key that it gives up"
    assert HERE.lacking(without.sign(IDENTITIES["ben again"], "ben")) != ""
    assert HERE.lacking(without.sign(IDENTITIES["ben"], "ben")) == ""


@pytest.mark.claim("MEMBER-3")
def test_where_an_agreement_is_named_nobody_is_added_who_has_not_signed_it() -> None:
    old, made = with_agreement(NAMES)
    here = lineage(old)
    assert made.facts["agreement"] == AGREEMENT
    assert here.lacking(made) == "no signature of fay, which joins, under the agreement"
    with pytest.raises(Malformed, match="no signature of fay"):
        here.after(made)
    for key, kind in (("ben again", "membership"), ("fay", "record")):
        signature = IDENTITIES[key].sign(kind, made.record)
        assert here.lacking(Change(made.record, {**made.signatures, "fay": signature})) != ""
    signed = made.sign(IDENTITIES["fay"], "fay")
    assert here.after(signed).roster.names[-1] == "fay"
    assert here.joiners(signed) == ["fay"]


def test_her_signature_is_none_of_the_quorums() -> None:
    old, made = with_agreement((*NAMES[:3], "fay"))
    assert lineage(old).lacking(made) == "1 more signature (3 of 4 there)"


def test_who_only_leaves_signs_no_agreement() -> None:
    old, _ = with_agreement()
    made = change(old, lineage(old), NAMES[:4], remove=["eve"])
    assert "agreement" not in made.facts
    assert not lineage(old).lacking(made)


def test_of_the_signatures_only_those_that_count_are_kept() -> None:
    made = all_three(NAMES[:4]).sign(IDENTITIES["fay"], "fay")
    odd = {**made.signatures, "gus": bytes(64), "eve": bytes(64)}
    assert HERE.counted(Change(made.record, odd)).signatures == made.signatures


@pytest.mark.claim("MEMBER-1")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"removed": []}, "not what its file changes"),
        ({"rotated": []}, "not what its file changes"),
        ({"peers": []}, "not what its file changes"),
        ({"before": "0" * 64}, "another epoch"),
        ({"agreement": "0" * 64}, "not what its file changes"),
        ({"epoch": 3}, "another epoch"),
        ({"from_round": 1}, "begins at round 2"),
        ({"of": "nothing"}, "begins at round 2"),
        ({"file": "nonsense"}, "the file in it"),
        ({"file": OLD.raw.decode()}, "a file of epoch 1 where 2 follows"),
        ({"file": None}, "not a change"),
    ],
)
def test_a_record_that_contradicts_its_file_is_refused(fields: dict[str, object], reason: str) -> None:
    """No signature makes up for it."""
    with pytest.raises(Malformed, match=reason):
        HERE.after(altered(all_three(), **fields))


def of_everybody(name: str) -> Change:
    """fay joins, ben has another key; one of the two keys is one for which everybody can sign. All have signed it."""
    made, key = all_three(), {"fay": IDENTITIES["fay"], "ben": IDENTITIES["ben again"]}[name].key.hex()
    file = made.facts["file"].replace(key, everybody.KEY.hex())
    peers = [[one, everybody.KEY.hex() if one == name else held] for one, held in made.facts["peers"]]
    return altered(made, file=file, peers=peers, federation_digest=hashlib.sha256(file.encode()).hexdigest())


@pytest.mark.claim("MEMBER-1")
@pytest.mark.parametrize("name", ["fay", "ben"])
def test_no_change_lists_a_key_for_which_everybody_can_sign(name: str) -> None:
    """Neither of a site that joins nor of one with another key; nor does a ledger lead there."""
    made = of_everybody(name)
    with pytest.raises(Malformed, match="no site's key: anybody can write a signature"):
        HERE.after(made)
    rows = two_epochs(made, after=0)
    assert Epochs.of(rows[:-1]).announced == made.digest
    with pytest.raises(Malformed, match="anybody can write a signature"):
        Epochs.of(rows)


@pytest.mark.parametrize("name", ["fay", "ben"])
def test_were_such_a_key_listed_anybody_would_sign_as_that_site(name: str) -> None:
    with everybody.welcome():
        after = HERE.after(of_everybody(name))
        assert verify(after.roster[name].key, "record", b"whatever it is", everybody.SIGNATURE)


@pytest.mark.claim("MEMBER-7")
def test_a_key_keeps_its_name_since_its_account_of_privacy_does() -> None:
    with pytest.raises(Malformed, match="gus has the key of eve"):
        renamed = next_file(OLD, HERE, add=[member("fay")]).decode().replace("name: eve", "name: gus")
        HERE.after(altered(all_three(), file=renamed))


@pytest.mark.claim("MEMBER-7")
def test_the_name_of_a_site_that_left_is_given_to_no_other_key() -> None:
    """A sum over ada, ben, cyd and the first dot, and one over the same names, would differ by the two dots alone."""
    second = HERE.after(change(OLD, HERE, remove=["dot"]))
    here = change(OLD, HERE, remove=["dot"]).federation()
    with pytest.raises(Malformed, match="dot was a site with another key, which left"):
        change(here, second, add=[member("dot", "fay")])
    back = change(here, second, add=[member("dot")])
    assert second.after(back).roster.names[-1] == "dot", "with its own key it may come back"


def test_a_file_of_another_federation_is_refused() -> None:
    other = federation("rounds=9")
    elsewhere = next_file(other, lineage(other), remove=["eve"])
    with pytest.raises(Malformed, match="lineage"):
        HERE.after(altered(all_three(), file=elsewhere.decode()))


def test_a_third_epoch_follows_from_the_second_by_its_own_quorum() -> None:
    second = HERE.after(all_three())
    file = all_three().federation()
    made = change(file, second, (), from_round=9, remove=["dot"])
    for name in ("ada", "cyd", "fay"):
        made = made.sign(IDENTITIES[name], name)
    assert second.lacking(made.sign(IDENTITIES["eve"], "eve"))  # it is gone
    assert second.lacking(made.sign(IDENTITIES["ben"], "ben"))  # that key is gone
    third = second.after(made.sign(IDENTITIES["ben again"], "ben"))
    assert third.roster.names == ("ada", "ben", "cyd", "fay")
    assert third.first == OLD.digest
    with pytest.raises(Malformed, match="epoch"):
        third.after(made)


# ── where it stands in a ledger ───────────────────────────────────────────────────────────────────────────────


def test_a_ledger_of_two_epochs_is_followed_from_its_genesis() -> None:
    made = all_three()
    steps = Epochs.of(two_epochs(made))
    assert steps.lineage == replace(HERE.after(made))
    assert (steps.ends, steps.entries) == ([4], 7)


def test_a_change_stands_only_behind_the_round_that_announces_it() -> None:
    with pytest.raises(Malformed, match="does not announce"):
        Epochs.of(two_epochs(all_three(), announced="ab" * 32))
    rows = two_epochs(all_three())
    with pytest.raises(Malformed, match="does not announce"):
        Epochs.of([*rows[:3], rows[4]])


@pytest.mark.claim("MEMBER-8")
def test_behind_the_last_round_of_an_epoch_no_other_round_stands() -> None:
    rows = two_epochs(all_three())
    with pytest.raises(Malformed, match="announced belongs"):
        Epochs.of([*rows[:4], round_row(4, rows[3][0], old_keys())])


def test_a_change_does_not_begin_before_its_round() -> None:
    with pytest.raises(Malformed, match="too early"):
        Epochs.of(two_epochs(all_three(), last=2))


def test_a_round_of_the_epoch_before_is_refused_behind_the_change() -> None:
    rows = two_epochs(all_three(), after=0)
    with pytest.raises(Malformed, match="of epoch 1"):
        Epochs.of([*rows, round_row(4, rows[3][0], old_keys())])
    Epochs.of([*rows, round_row(4, rows[3][0], new_keys(all_three()), epoch=2)])


def test_a_log_that_begins_with_anything_else_than_a_genesis_is_refused() -> None:
    with pytest.raises(Malformed, match="genesis"):
        Epochs.of(two_epochs(all_three())[1:])
    with pytest.raises(Malformed, match="a second genesis"):
        Epochs.of([*two_epochs(all_three())[:2], two_epochs(all_three())[0]])
    with pytest.raises(Malformed, match="not a genesis"):
        Lineage.of_genesis(facts({"kind": "genesis", "epoch": 1, "federation_digest": "ab" * 32, "peers": []}))
