"""What two nodes tell one another when a link comes up, and whom that stops: the other, the link, or this very home."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from math import inf

import pytest

from p2pfl import codec
from p2pfl.clocks import SYSTEM
from p2pfl.codec import Malformed, facts
from p2pfl.errors import P2PFLError
from p2pfl.errors.counts import counted
from p2pfl.errors.membership import Revoked
from p2pfl.errors.round import (
    LedgersDiffer,
    MalformedMessage,
    PeersFileDiffers,
    RolledBack,
    SignatureMissing,
    WrongSender,
)
from p2pfl.federation.membership import Change, Lineage
from p2pfl.keys import Identity, digest
from p2pfl.ledger import entry
from p2pfl.messages import (
    Ack,
    Ballot,
    Chunk,
    Confirm,
    Envelope,
    Handed,
    Hello,
    Leave,
    Letter,
    Message,
    Nonce,
    Propose,
    Ready,
    Reveal,
    Root,
    Want,
    letters,
    open_letter,
    read_letter,
    rejoin,
    seal,
)
from p2pfl.node.hello import Greetings, Standing
from p2pfl.node.pledge import Pledge
from p2pfl.node.site import SiteProcess
from p2pfl.node.threads import LARGE_LETTER
from p2pfl.roster import Member, Roster
from p2pfl.training.privacy.account import decimal_epsilon
from tests.federation import everybody
from tests.ledger.sample import round_

NAMES = ("a", "b", "c", "d", "e")  # c = 1 liar
IDENTITIES = {name: Identity(digest("test identity", name.encode())) for name in NAMES}
ROSTER = Roster(1, tuple(Member(name, IDENTITIES[name].key, ()) for name in NAMES))
FEDERATION_DIGEST = bytes(31) + b"m"
PLEDGE = Pledge(b"genesis", b"agreement")
NONCE = bytes(31) + b"n"
RUN = bytes(31) + b"r"


def roots(size: int) -> bytes:
    return digest("root", bytes([size]))


@dataclass
class Members:
    """A `Membership` of one epoch: what a peer shows goes to `learn`."""

    here: Lineage | None = None
    offers: tuple[Change, ...] = ()
    learn: Callable[[Change], None] = lambda change: None
    revoked: Callable[[str], None] = lambda peer: None

    def lineage(self) -> Lineage | None:
        return self.here

    def changes_to_offer(self) -> tuple[Change, ...]:
        return self.offers

    def learn_change(self, change: Change) -> None:
        self.learn(change)

    def check_key(self, peer: str) -> None:
        self.revoked(peer)


@dataclass
class Heads:
    """`Witnesses` that cosigned one head, and keep what they are shown."""

    cosigned: bytes = b""
    judge: Callable[[str, bytes], None] = lambda peer, shown: None
    elsewhere: frozenset[bytes] = frozenset()  # runs of other studies

    def shown(self, peer: str) -> bytes:
        return self.cosigned

    async def check(self, peer: str, shown: bytes) -> None:
        self.judge(peer, shown)

    async def of_another_study(self, run: bytes) -> bool:
        return run in self.elsewhere


class Site:
    """One site's greetings, the log that it claims, and how far its home has come."""

    def __init__(
        self,
        name: str,
        /,
        entries: int = 3,
        reached: tuple[int, int] = (2, 0),
        most_said: float = 1.0,
        **changed: object,
    ) -> None:
        self.failed: list[P2PFLError] = []
        standing = Standing(entries, roots(entries), roots, "1.0", lambda run: reached, most_said)
        process = SiteProcess(IDENTITIES[name], name, ROSTER, bytes(16), FEDERATION_DIGEST, SYSTEM)
        own = {field.name for field in fields(SiteProcess)} & changed.keys()
        made = Greetings(
            replace(process, **{key: changed.pop(key) for key in own}),  # type: ignore[arg-type]
            PLEDGE,
            lambda: standing,
            Members(),
            Heads(),
            self.failed.append,
        )
        self.greets = replace(made, **changed) if changed else made  # type: ignore[arg-type]

    def hears(self, other: Site) -> None:
        sender = other.greets.site.name
        self.judges(sender, other.greets.greeting(self.greets.site.name, NONCE))

    def judges(self, sender: str, greeting: bytes) -> None:
        asyncio.run(self.greets.check_greeting(sender, greeting, NONCE))


PROPOSE = Propose(FEDERATION_DIGEST, 0, bytes(32), bytes(32), facts({}), b"", 1, 1, "1.0", bytes(32), b"")
STATEMENTS = {
    "Ack": Ack((), ()),
    "Propose": PROPOSE,
    "Root": Root(RUN, ((31, 1),), bytes(32)),
    "Ready": Ready(RUN, RUN),
    "Ballot": Ballot(0, b"", b"", (), ()),
    "Leave": Leave(()),
    "Confirm": Confirm(bytes(32), bytes(32), b"{}", bytes(64)),
}


def said(sender: str, round: int, attempt: int = 0, message: Message = PROPOSE, run: bytes = RUN) -> Letter:
    earlier = bytes(15) + b"e"  # the process that signed it is another than the one that is told of it
    return seal(message, Envelope(run, 1, round, attempt, sender, earlier), IDENTITIES[sender])


def test_sites_of_one_federation_hear_each_other_and_keep_the_signatures() -> None:
    a, b = Site("a"), Site("b", entries=4)
    a.hears(b)
    b.hears(a)
    genesis, agreement = a.greets.signatures(dict.fromkeys(NAMES))
    assert (list(genesis), list(agreement)) == (["a", "b"], ["a", "b"])


def hears_anybody() -> None:
    """Site a lists b with a key for which everybody can sign, and hears a hello of whoever likes."""
    listed = Roster(1, tuple(replace(one, key=everybody.KEY) if one.name == "b" else one for one in ROSTER.members))
    Site("a", roster=listed).hears(Site("b", roster=listed, identity=everybody.Anybody()))


def test_a_hello_under_a_key_for_which_everybody_can_sign_is_signed_by_nobody() -> None:
    """Even if such a key stood in peers.yaml, which refuses it too."""
    with pytest.raises(MalformedMessage) as caught:
        hears_anybody()
    assert caught.value.evidence == "Hello: not signed by 'b'"


def test_did_such_signatures_count_anybody_would_be_that_site() -> None:
    with everybody.welcome():
        hears_anybody()


def test_another_peers_yaml_is_refused_and_both_digests_shown() -> None:
    with pytest.raises(PeersFileDiffers) as caught:
        Site("a").hears(Site("b", federation_digest=bytes(32)))
    assert FEDERATION_DIGEST.hex()[:16] in caught.value.evidence


@pytest.mark.claim("LEDGER-10")
@pytest.mark.parametrize(
    "pledge", [Pledge(b"another genesis", b"agreement"), Pledge(b"genesis", b"another"), Pledge(b"genesis", b"")]
)
def test_a_site_that_signed_another_genesis_or_no_agreement_is_refused(pledge: Pledge) -> None:
    with pytest.raises(SignatureMissing):
        Site("a").hears(Site("b", pledge=pledge))


def test_a_hello_of_another_link_or_in_anothers_name_is_refused() -> None:
    a, b = Site("a"), Site("b")
    with pytest.raises(MalformedMessage):
        a.judges("b", b.greets.greeting("a", bytes(32)))
    with pytest.raises(WrongSender):
        a.judges("c", b.greets.greeting("a", NONCE))
    with pytest.raises(MalformedMessage):
        a.judges("b", b"\xc1")


def test_a_process_is_not_taken_for_a_copy_because_of_what_it_said_itself() -> None:
    ada, ben = Site("a", reached=(2, 0)), Site("b")
    own = said("a", 3)
    ben.greets.heard(seal(own.message, replace(own.envelope, incarnation=ada.greets.site.incarnation), IDENTITIES["a"]))
    ada.hears(ben)
    assert not ada.failed


@pytest.mark.claim("HOME-5")
@pytest.mark.parametrize(("round", "attempt"), [(3, 0), (2, 1)])
@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_rolled_back_home_is_stopped_by_one_peer_that_shows_its_own_signature(
    kind: str, round: int, attempt: int
) -> None:
    a, b = Site("a", reached=(2, 0)), Site("b")
    b.greets.heard(said("a", round, attempt, STATEMENTS[kind]))
    with pytest.raises(RolledBack) as caught:
        a.hears(b)
    assert f"{kind} of round {round}, attempt {attempt}" in caught.value.evidence
    assert [type(error) for error in a.failed] == [RolledBack]
    assert a.failed[0].exit_status == 5


def proposed(epsilon: str, epoch: int = 1) -> Letter:
    """A proposal of a round and attempt that this home has begun, by a process before this one."""
    return seal(replace(PROPOSE, epsilon=epsilon), replace(said("a", 2).envelope, epoch=epoch), IDENTITIES["a"])


@pytest.mark.claim("DP-4")
@pytest.mark.claim("HOME-5")
def test_a_home_set_back_to_before_its_charge_is_stopped_by_its_own_proposal() -> None:
    """In the middle of a round, behind its secrets: its place in the run is the same, its account is not."""
    a, b = Site("a", reached=(2, 0), most_said=0.5), Site("b")
    b.greets.heard(proposed("0.500001"))
    with pytest.raises(RolledBack) as caught:
        a.hears(b)
    assert "round 2" in caught.value.evidence
    assert "0.500001" in caught.value.evidence
    assert [type(error) for error in a.failed] == [RolledBack]


def test_were_epsilon_not_compared_such_a_home_would_train_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Greetings, "_beyond_account", lambda self, peer, letter, most_said: None)
    a, b = Site("a", reached=(2, 0), most_said=0.5), Site("b")
    b.greets.heard(proposed("0.500001"))
    a.hears(b)
    assert a.failed == []


@pytest.mark.claim("DP-13")
def test_all_that_a_peer_holds_is_read_before_it_stops_an_older_home() -> None:
    """What that had spent since is known to its peers alone, and counts in all of its studies."""
    shown: list[bytes] = []
    heads = Heads(judge=lambda peer, head: shown.append(head))
    a, b = Site("a", reached=(1, 0), most_said=0.5, heads=heads), Site("b", heads=Heads(b"a head of a"))
    b.greets.heard(said("a", 9, 0, STATEMENTS["Ready"]))
    b.greets.heard(proposed("0.75"))
    with pytest.raises(RolledBack):
        a.hears(b)
    assert (shown, a.greets.said, a.greets.told) == ([b"a head of a"], 0.75, {"b"})


@pytest.mark.claim("HOME-10")
@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_statement_of_another_study_of_the_home_stops_nobody(kind: str) -> None:
    """Who takes part in both shows it; in this study it says nothing."""
    letter = said("a", 9, 0, STATEMENTS[kind])
    a, b = Site("a", reached=(2, 0), heads=Heads(elsewhere=frozenset([letter.envelope.run]))), Site("b")
    b.greets.heard(letter)
    a.hears(b)
    assert a.failed == []


@pytest.mark.parametrize("epsilon", ["0.5", "0.499999", ""])
def test_a_proposal_of_what_the_account_holds_stops_nobody(epsilon: str) -> None:
    a, b = Site("a", reached=(2, 0), most_said=0.5), Site("b")
    b.greets.heard(proposed(epsilon))
    a.hears(b)
    assert a.failed == []


def test_a_proposal_of_an_epoch_that_is_over_still_tells_what_was_spent() -> None:
    second = Roster(2, ROSTER.members)
    a, b = Site("a", roster=second, most_said=0.5), Site("b", roster=second)
    b.greets.heard(proposed("0.75"))
    with pytest.raises(RolledBack):
        a.hears(b)


def test_what_tells_nothing_of_how_far_a_site_got_is_not_shown_to_it() -> None:
    b = Site("b")
    for message in (Want("nothing", ()), Reveal((("a", bytes(32)),)), Nonce(RUN, RUN)):
        b.greets.heard(said("a", 9, 0, message))
    assert codec.unpack(b.greets.statements(), most=1 << 20, items=8) == ()
    Site("a").hears(b)


def test_every_kind_of_statement_fits_into_one_hello() -> None:
    a, b = Site("a", reached=(2, 0)), Site("b")
    for message in STATEMENTS.values():
        b.greets.heard(said("a", 2, 0, message))
    a.hears(b)
    assert a.failed == []


def refuse(peer: str, shown: bytes) -> None:
    if shown:
        raise RolledBack(peer=peer, site="a", evidence=shown.decode())


@pytest.mark.claim("HOME-5")
def test_a_cut_site_log_is_stopped_by_one_peer_that_shows_the_head_that_it_cosigned() -> None:
    a, b = Site("a", heads=Heads(judge=refuse)), Site("b", heads=Heads(b"a head of a"))
    b.hears(a)
    with pytest.raises(RolledBack) as caught:
        a.hears(b)
    assert caught.value.evidence == "a head of a"
    assert [error.exit_status for error in a.failed] == [5]


@pytest.mark.claim("HOME-5")
def test_a_repeated_older_statement_does_not_hide_the_newest() -> None:
    a, b = Site("a", reached=(2, 0)), Site("b")
    ready = STATEMENTS["Ready"]
    for round, attempt in ((3, 1), (3, 0), (1, 4)):  # of a round left behind, when the link is up again
        b.greets.heard(said("a", round, attempt, ready))
    with pytest.raises(RolledBack) as caught:
        a.hears(b)
    assert "round 3, attempt 1" in caught.value.evidence


@pytest.mark.claim("HOME-5")
def test_a_statement_of_another_run_hides_none() -> None:
    a, b = Site("a", reached=(2, 0)), Site("b")
    b.greets.heard(said("a", 3, 0))
    b.greets.heard(said("a", 1, 0, run=bytes(32)))
    with pytest.raises(RolledBack):
        a.hears(b)


def test_a_statement_of_this_epoch_stops_a_site_an_older_one_not() -> None:
    """A round under way when its epoch ended is on no disk any more; who kept a letter of it could stop its author."""
    second = Roster(2, ROSTER.members)
    ada, ben = Site("a", roster=second), Site("b", roster=second)
    ben.greets.heard(said("a", 3))  # of epoch 1
    ada.hears(ben)
    assert ada.failed == []
    ben.greets.heard(seal(PROPOSE, replace(said("a", 3).envelope, epoch=2), IDENTITIES["a"]))
    with pytest.raises(RolledBack):
        ada.hears(ben)


def test_what_this_home_did_itself_is_no_rollback_also_after_the_peer_restarted() -> None:
    a, b = Site("a", reached=(2, 1)), Site("b")
    b.greets.heard(said("a", 2, 1))
    restarted = Site("b")
    restarted.greets.remember(b.greets.statements())
    a.hears(restarted)
    assert a.failed == []


@pytest.mark.parametrize("data", [b"", codec.pack(0), codec.pack((1, 2)), codec.pack(("text",)), b"\x91" * 2000])
def test_what_is_no_list_of_letters_is_malformed_and_not_taken_up(data: bytes) -> None:
    with pytest.raises(Malformed):
        Site("a").greets.remember(data)


@pytest.mark.claim("HOME-5")
def test_a_statement_that_this_site_never_signed_stops_nobody() -> None:
    a, liar = Site("a"), Site("b")
    forged = seal(said("a", 9).message, said("a", 9).envelope, IDENTITIES["b"])
    liar.greets._heard["a"] = {"Propose": forged}
    with pytest.raises(MalformedMessage):
        a.hears(liar)
    liar.greets._heard["a"] = {"Propose": said("b", 9)}
    a.hears(liar)
    assert a.failed == []


def with_ledger(name: str, entries: int, root: bytes) -> Site:
    standing = Standing(entries, root, roots, "1.0", lambda run: (2, 0), 1.0)
    return Site(name, standing=lambda: standing)


@pytest.mark.claim("LEDGER-10")
@pytest.mark.parametrize("entries", [4, 40, 1 << 40])
def test_a_longer_ledger_is_a_reason_to_catch_up_and_none_to_refuse(entries: int) -> None:
    a = Site("a", entries=3)
    for name in NAMES[1:]:
        a.hears(with_ledger(name, entries, bytes(32)))
    assert a.failed == []
    assert a.greets.entries == dict.fromkeys(NAMES[1:], entries)


def test_a_shorter_ledger_is_one_of_a_site_that_was_away() -> None:
    a = Site("a", entries=3)
    for entries in (0, 1, 2):
        a.hears(with_ledger("b", entries, roots(entries) if entries else bytes(32)))
        assert a.greets.entries == {"b": entries}


@pytest.mark.claim("LEDGER-10")
@pytest.mark.parametrize("entries", [1, 2, 3])
def test_another_ledger_stops_this_home_only_when_many_hold_it(entries: int) -> None:
    """It is refused; it stops this home when more than the liars hold it."""
    a = Site("a", entries=3)
    for count, name in enumerate(("b", "c"), start=1):
        with pytest.raises(LedgersDiffer) as caught:
            a.hears(with_ledger(name, entries, bytes(32)))
        assert f"root over {counted(entries, 'entry')}" in caught.value.evidence
        assert len(a.failed) == (1 if count > ROSTER.quorums.c else 0)


def test_who_comes_back_with_the_same_ledger_is_no_longer_against_this_home() -> None:
    a = Site("a", entries=3)
    for name in ("b", "c"):
        with pytest.raises(LedgersDiffer):
            a.hears(with_ledger(name, 2, bytes(32)))
        a.hears(with_ledger(name, 2, roots(2)))
    assert a.failed == []


@pytest.mark.parametrize("claimed", ["abc", "-1", "nan", "1e5", " 1", "1\n", "inff", "٣"])
def test_a_claimed_epsilon_that_no_ledger_would_take_is_refused_at_the_door(claimed: str) -> None:
    """Else one liar's proposal would be in a round's record that no site could ever append."""
    proposed = replace(said("b", 3).message, epsilon=claimed)
    wire = seal(proposed, said("b", 3).envelope, IDENTITIES["b"]).wire
    with pytest.raises(Malformed):
        open_letter(wire, ROSTER, Message)
    with pytest.raises(MalformedMessage):
        standing = Standing(3, roots(3), roots, claimed, lambda run: (2, 0), 1.0)
        Site("a").hears(Site("b", standing=lambda: standing))


@pytest.mark.parametrize("spent", [0.0, 1e-9, 1.0515179, 2.5e7, inf])
def test_an_epsilon_as_this_program_writes_it_passes_the_door_and_the_ledger(spent: float) -> None:
    text = decimal_epsilon(spent)
    proposed = replace(said("b", 3).message, epsilon=text)
    wire = seal(proposed, said("b", 3).envelope, IDENTITIES["b"]).wire
    assert open_letter(wire, ROSTER, Message).message == proposed
    assert entry.read_record(round_(1, epsilon={"charite": text})[0])["epsilon"] == {"charite": text}


def test_what_is_no_statement_is_not_read_in_an_echo() -> None:
    """Fifteen sets of members in a hello, of any form, would take a second to read."""
    plain = read_letter(Site("b").greets.greeting("a", NONCE))
    assert isinstance(plain.message, Hello)
    echo = (codec.pack((Handed.kind, b"no body", bytes(64))),)
    greeting = seal(replace(plain.message, echo=echo), plain.envelope, IDENTITIES["b"]).wire
    Site("a").judges("b", greeting)
    broken = (codec.pack((Ack.kind, b"no body", bytes(64))),)
    greeting = seal(replace(plain.message, echo=broken), plain.envelope, IDENTITIES["b"]).wire
    with pytest.raises(MalformedMessage):
        Site("a").judges("b", greeting)


def large(sender: str, to: str = "a", size: int = LARGE_LETTER) -> bytes:
    """A hello with a large statement of its sender's own in its echo, which says nothing of the receiver."""
    plain = read_letter(Site(sender).greets.greeting(to, NONCE))
    assert isinstance(plain.message, Hello)
    echo = (said(sender, 1, 0, Root(RUN, ((31, 1),), bytes(size))).wire,)
    return seal(replace(plain.message, echo=echo), plain.envelope, IDENTITIES[sender]).wire


def test_no_signature_is_checked_of_what_others_said_in_a_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    checked, real = list[str](), letters.verify

    def noted(key: bytes, kind: str, data: bytes, signature: bytes) -> bool:
        checked.append(kind)
        return real(key, kind, data, signature)

    monkeypatch.setattr(letters, "verify", noted)
    Site("a").judges("b", large("b"))
    assert checked == ["message/hello"]


def test_large_hellos_are_read_beside_the_loop_and_those_of_one_peer_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One member opened 256 connections, with 14 MiB on each, and every link stood still meanwhile."""
    under_way, most, heard, real = Counter[str](), Counter[str](), threading.Event(), Greetings._hello
    a, loops = Site("a").greets, threading.current_thread()

    def reads(self: Greetings, peer: str, *given: bytes) -> Hello:
        assert threading.current_thread() is not loops
        under_way[peer] += 1
        most[peer] = max(most[peer], under_way[peer])
        if peer == "c":
            heard.set()
        assert heard.wait(60.0)
        under_way[peer] -= 1
        return real(self, peer, *given)

    monkeypatch.setattr(Greetings, "_hello", reads)

    async def scene() -> None:
        await asyncio.gather(*(a.check_greeting(peer, large(peer), NONCE) for peer in "bbc"))

    asyncio.run(scene())
    assert (dict(most), a.entries) == ({"b": 1, "c": 1}, {"b": 3, "c": 3})


def test_a_key_that_is_revoked_while_a_large_hello_is_read_opens_no_link() -> None:
    asked: list[str] = []

    def revoked(peer: str) -> None:
        asked.append(peer)
        if len(asked) == 2:
            raise Revoked(peer=peer, evidence="its key")

    with pytest.raises(Revoked):
        Site("a", membership=Members(revoked=revoked)).judges("b", large("b"))


def test_a_key_that_is_revoked_while_a_small_hello_is_judged_opens_no_link() -> None:
    revoked, change = set[str](), Change(b"{}", {})

    def check(peer: str) -> None:
        if peer in revoked:
            raise Revoked(peer=peer, evidence="its key")

    a = Site("a", membership=Members(learn=lambda change: revoked.add("b"), revoked=check))
    with pytest.raises(Revoked):
        a.hears(Site("b", membership=Members(offers=(change,))))


def test_own_statements_that_this_site_never_signed_are_no_hello() -> None:
    a, plain = Site("a"), read_letter(Site("b").greets.greeting("a", NONCE))
    assert isinstance(plain.message, Hello)
    forged = replace(said("b", 9), envelope=said("a", 9).envelope)
    forged = rejoin(forged.message, forged.envelope, forged.signature)
    greeting = seal(replace(plain.message, echo=(forged.wire,)), plain.envelope, IDENTITIES["b"]).wire
    with pytest.raises(MalformedMessage) as caught:
        a.judges("b", greeting)
    assert (caught.value.evidence, a.failed) == ("in its echo: Propose: not signed by 'a'", [])


@pytest.mark.claim("LIAR-9")
def test_what_nobody_signed_shows_nothing_of_this_site() -> None:
    """A chunk is bound by a digest that is signed, and is not signed itself: anybody can write one in any name."""
    a, b = Site("a", reached=(2, 0)), Site("b")
    plain = read_letter(b.greets.greeting("a", NONCE))
    assert isinstance(plain.message, Hello)
    for message in (Chunk(RUN, 0, b"words"), Reveal((("a", bytes(32)),)), Want("vote", ())):
        forged = seal(message, said("a", 1 << 50).envelope, IDENTITIES["a" if message.signed else "b"])
        greeting = seal(replace(plain.message, echo=(forged.wire,)), plain.envelope, IDENTITIES["b"]).wire
        a.judges("b", greeting)
    assert a.failed == []
