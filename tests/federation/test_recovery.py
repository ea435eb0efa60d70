"""A change by which a site goes on from an older home: who signs it, what it holds, what the ledger makes of it."""

from __future__ import annotations

import pytest

from p2pfl.codec import Malformed, facts
from p2pfl.federation import changefile, membership
from p2pfl.federation.membership import Change, Epochs
from p2pfl.ledger import auditor
from p2pfl.ledger.entry import entry_of, read_record
from p2pfl.ledger.verify import check_federation
from tests.federation.changes import IDENTITIES, NAMES, change, federation, lineage, member, two_epochs
from tests.ledger.exports import chain_of, file_of, log_of

OF = federation()
HERE = lineage(OF)
OTHERS = NAMES[:4]


def recovery(signers: tuple[str, ...] = OTHERS, spent: str = "1.25", **steps: object) -> Change:
    return change(OF, HERE, signers, recovered={"eve": spent}, **steps)  # type: ignore[arg-type]


@pytest.mark.claim("HOME-9")
def test_the_signature_of_the_site_that_forgot_what_it_signed_does_not_count() -> None:
    assert HERE.lacking(recovery()) == ""
    assert HERE.lacking(recovery(("ada", "ben", "cyd", "eve"))) == "1 more signature (3 of 4 there)"
    assert list(HERE.counted(recovery(NAMES)).signatures) == list(OTHERS)
    with pytest.raises(Malformed):
        HERE.after(recovery(("ada", "ben", "cyd", "eve")))
    assert HERE.after(recovery()).roster.epoch == 2


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        ({"gus": "1"}, {}),
        ({"eve": "1"}, {"remove": ["eve"]}),
        ({"fay": "1"}, {"add": [member("fay")]}),
        ({"ben": "1"}, {"rotate": {"ben": member("ben", "ben again")}}),
        ({"eve": "-1"}, {}),
        ({"eve": "nan"}, {}),
        ({"eve": ""}, {}),
    ],
)
def test_who_goes_on_stays_with_its_key_and_with_what_it_has_spent(names: dict[str, str], steps: object) -> None:
    with pytest.raises(Malformed):
        change(OF, HERE, recovered=names, **steps)  # type: ignore[arg-type]


@pytest.mark.parametrize("recovered", [5, True, "eve", ["eve"], ["abc"], {"eve": 1}, {"eve": None}])
@pytest.mark.parametrize("signers", [(), ("eve",), NAMES])
def test_a_record_that_anybody_made_up_is_refused_and_ends_no_process(
    recovered: object, signers: tuple[str, ...]
) -> None:
    made = Change(facts({**change(OF, HERE).facts, "recovered": recovered}), {})
    for name in signers:
        made = made.sign(IDENTITIES[name], name)
    with pytest.raises(Malformed):
        HERE.after(made)
    with pytest.raises(Malformed):
        HERE.check_change(made)


def test_of_a_change_that_too_few_have_signed_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mebibyte takes a fifth of a second to read, a hello may bring four, and anybody may write them."""
    made = change(OF, HERE, signers=OTHERS[:3])
    forged = Change(made.record, {**made.signatures, "eve": bytes(64), "dot": made.signatures["ada"]})
    monkeypatch.setattr(membership, "read_facts", lambda *data: pytest.fail("it was read"))
    for each in (made, forged, Change(b"[" * 1000, {})):
        with pytest.raises(Malformed, match="of 4 signatures"):
            HERE.after(each)


def test_the_file_that_people_pass_on_holds_it() -> None:
    made = recovery()
    again = changefile.parse(changefile.to_bytes(made), "change.yaml")
    assert (again.record, again.signatures) == (made.record, made.signatures)
    assert b'eve: "1.25"' in changefile.to_bytes(made)


def test_its_entry_says_so_in_words() -> None:
    assert "eve goes on from an older home, epsilon 1.25" in entry_of(read_record(recovery().record)).line


def test_the_ledger_knows_since_when_its_log_counts() -> None:
    found = Epochs.of(two_epochs(recovery()))
    assert (found.recovered, found.added) == ({"eve": 4}, {})


def judged(made: Change) -> tuple[list[str], list[str]]:
    """What `ledger verify` and the auditor's program say of a ledger with that change in it."""
    rows = two_epochs(made)
    facts = auditor.checked(file_of(log_of(rows, "ada", {"ada": IDENTITIES["ada"]})), None)
    assert facts["epsilon"]["eve"] == max("0.05", *made.facts["recovered"].values())
    mine = [one.what for one in check_federation(chain_of(rows).entries)]
    return mine, [one["what"] for one in facts["findings"]]


@pytest.mark.claim("HOME-9")
def test_no_round_says_less_of_it_than_its_recovery_did_and_both_verifiers_see_it() -> None:
    assert judged(recovery(spent="0.03")) == ([], [])
    mine, theirs = judged(recovery(spent="1.25"))  # and the next round says 0.04
    assert any("eve went down from 1.25 to 0.04" in what for what in mine)
    assert any("eve goes down, from 1.25 to 0.04" in what for what in theirs)
    mine, theirs = judged(recovery(spent="0.01"))  # the round before said 0.03
    assert any("eve went down from 0.03 to 0.01" in what for what in mine)
    assert any("eve goes down, from 0.03 to 0.01" in what for what in theirs)


def test_both_verifiers_count_no_signature_of_the_site_itself() -> None:
    for what in judged(recovery(("ada", "ben", "cyd", "eve"), spent="0.03")):
        assert any("3" in one for one in what)
