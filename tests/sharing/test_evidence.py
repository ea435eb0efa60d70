"""Every kind of proof convicts its liar, from its letters alone; what anybody may sign or make up convicts nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from p2pfl import merkle
from p2pfl import messages as m
from p2pfl.codec import Malformed
from p2pfl.keys import digest
from p2pfl.messages import Letter, Message
from p2pfl.sharing.digests import attempt_digest, chunk_leaf, roots_digest, sum_digest
from p2pfl.sharing.evidence import convict, convicted
from p2pfl.sharing.field import FIELDS
from p2pfl.sharing.forms import Forms
from tests.sharing.letters import Paper

paper = Paper(4)  # q = 3, so that two backup shares open a seed
LIAR, NAMES, H, V = "site-2", paper.names, bytes(32), digest("view")
MEMBERS = paper.members()
D = attempt_digest(MEMBERS)
FIELD = FIELDS[61]
WORDS = {
    name: np.arange(1 << 30, (1 << 30) + 5, dtype=FIELD.dtype) + FIELD.dtype.type(k) for k, name in enumerate(NAMES)
}  # y of each
PIECES = ((0, 2), (2, 3), (3, 4), (4, 5))  # the words of each chunk: chunk k is the k-th member's to sum
CHALLENGE = digest("challenge")


def words(name: str, index: int) -> bytes:
    start, stop = PIECES[index]
    data: bytes = WORDS[name][start:stop].tobytes()
    return data


def root(name: str, segments: tuple[tuple[int, int], ...] = ((61, 5),), **change: bytes) -> Letter:
    """The signed hashes of `name`; `change` gives the words of a chunk (chunk_0 …) that it signs instead."""
    data = [change.get(f"chunk_{index}", words(name, index)) for index in range(len(PIECES))]
    leaves = [merkle.leaf_hash(chunk_leaf(D, index, each)) for index, each in enumerate(data)]
    return paper.by(name, m.Root(D, segments, b"".join(leaves)))


ROOTS = [root(name) for name in NAMES]


def tags(name: str, lie: bool = False, challenge: bytes = CHALLENGE) -> Letter:
    forms = Forms(challenge, FIELD)
    told = [forms.tag(WORDS[name][start:stop]) for start, stop in PIECES]
    return paper.by(name, m.Tags(challenge, b"".join([bytes(8), *told[1:]] if lie else told)))


def opened(author: str, index: int = 0, by: str = NAMES[0], data: bytes = b"") -> Letter:
    return paper.by(by, m.Opened(D, index, author, data or words(author, index)))


def signed_sum(owner: str, index: int, lie: int = 0, *, by: str = "") -> Letter:
    start, stop = PIECES[index]
    total = FIELD.sum([WORDS[name][start:stop] for name in NAMES]) + FIELD.dtype.type(lie)
    return paper.by(by or owner, m.SumDigest(D, index, sum_digest(D, index, total), roots_digest(ROOTS)))


def false_sum(index: int = 2, lie: int = 1) -> list[Letter]:
    return [MEMBERS, signed_sum(NAMES[index], index, lie), *ROOTS, *(opened(name, index) for name in NAMES)]


def said(message: Message, attempt: int = 0, process: str = "") -> Letter:
    return paper.by(LIAR, message, attempt=attempt, process=process)


def ballot(view: bytes) -> Letter:
    return said(m.Ballot(1, D, view, NAMES[:3], ()))


DEALT, FALSE_DEAL = paper.deal(LIAR), paper.deal(LIAR, opens=bytes(32))
PROOFS: dict[str, Callable[[], Sequence[Letter]]] = {
    "two bundles": lambda: [DEALT.bundle, paper.deal(LIAR, salt=b"x").bundle],
    "two proposals": lambda: [paper.propose(LIAR), paper.propose(LIAR, model=H)],
    "two roots": lambda: [root(LIAR), root(LIAR, chunk_0=bytes(16))],
    "two roots of two processes": lambda: [root(LIAR), said(m.Root(D, (), b""), process="other")],
    "two digests of one chunk": lambda: [signed_sum(LIAR, 2), signed_sum(LIAR, 2, 1)],
    "two nonces": lambda: [said(m.Nonce(V, H)), said(m.Nonce(V, V))],
    "one nonce for two views": lambda: [said(m.Nonce(V, H)), said(m.Nonce(H, H))],
    "two lists of tags": lambda: [tags(LIAR), tags(LIAR, lie=True)],
    "two READYs": lambda: [said(m.Ready(D, V)), said(m.Ready(D, H))],
    "READYs under two sets": lambda: [said(m.Ready(D, V)), said(m.Ready(H, V))],
    "SURVIVORS and ABANDON": lambda: [ballot(V), said(m.Ballot(0, D, b"", (), ()))],
    "two SURVIVORS": lambda: [ballot(V), ballot(H)],
    "two ABANDONs": lambda: [said(m.Ballot(0, b"", b"", (), ())), said(m.Ballot(0, b"", b"", (), ("site-0",)))],
    "two sets": lambda: [said(MEMBERS.message), said(paper.members(survivors=NAMES[1:]).message)],
    "a set that does not hold together": lambda: [said(paper.members(deadline_ms=7).message)],
    "a certificate that decides nothing": lambda: [said(m.Certificate((), b""))],
    "a certificate of another attempt": lambda: [
        said(
            m.Certificate(tuple(paper.by(name, m.Ballot(0, b"", b"", (), ())).wire for name in NAMES[:3]), b""),
            attempt=1,
        )
    ],
    "another nonce than its bundle's": lambda: [DEALT.bundle, said(m.Nonce(V, H))],
    "a false tag": lambda: [MEMBERS, root(LIAR), tags(LIAR, lie=True), opened(LIAR)],
    "no tag": lambda: [MEMBERS, root(LIAR), said(m.Tags(CHALLENGE, b"")), opened(LIAR, 3)],
    "a false sum": false_sum,
    "shares that open something else": lambda: [
        FALSE_DEAL.bundle,
        paper.backup("site-0", FALSE_DEAL),
        paper.backup("site-3", FALSE_DEAL),
    ],
    "shares that open something else, all of them": lambda: [
        FALSE_DEAL.bundle,
        *(paper.backup(name, FALSE_DEAL) for name in NAMES if name != LIAR),
    ],
}


def judged(letters: Iterable[Letter]) -> str:
    return convicted([letter.wire for letter in letters], paper.roster)


@pytest.mark.claim("LIAR-1")
@pytest.mark.parametrize("name", PROOFS)
def test_each_kind_of_proof_convicts_its_liar_and_needs_every_one_of_its_letters(name: str) -> None:
    letters = PROOFS[name]()
    assert judged(letters) == LIAR
    enough = "all of them" in name  # more shares than are needed
    for place in range(len(letters)):
        assert enough or judged([*letters[:place], *letters[place + 1 :]]) == "", place
        forged = [paper.forged(one) if one.message.signed and k == place else one for k, one in enumerate(letters)]
        assert judged(forged) == (LIAR if forged == letters else ""), "a forged letter proves nothing"
        other = paper.elsewhere(letters[place], attempt=9)
        if len(letters) > 1:
            assert judged([*letters[:place], other, *letters[place + 1 :]]) == ""


@pytest.mark.parametrize("name", PROOFS)
def test_no_other_peers_letter_stands_in_for_a_liars_in_a_proof(name: str) -> None:
    """No matter which peer shows the proof."""
    letters = PROOFS[name]()
    for place, letter in enumerate(letters):
        if letter.sender != LIAR:
            continue
        for other in (each for each in NAMES if each != LIAR):
            moved = paper.by(other, letter.message)
            found = judged([*letters[:place], moved, *letters[place + 1 :]])
            assert found in ("", other) if len(letters) == 1 else found == "", f"{other} in place {place}"


INNOCENT: dict[str, Callable[[], Sequence[Letter]]] = {
    "nothing": list,
    "one letter that may be true": lambda: [root(LIAR)],
    "a set that holds together": lambda: [MEMBERS],
    "the same letter twice": lambda: [root(LIAR), root(LIAR)],
    "one statement by two processes": lambda: [said(m.Ready(D, V)), said(m.Ready(D, V), process="other")],
    "bundles of two processes": lambda: [
        DEALT.bundle,
        paper.elsewhere(paper.deal(LIAR, salt=b"x").bundle, incarnation=bytes(16)),
    ],
    "proposals of two processes": lambda: [
        paper.propose(LIAR),
        paper.elsewhere(paper.propose(LIAR, model=H), incarnation=bytes(16)),
    ],
    "acknowledgements, of which the later is longer": lambda: [paper.ack(LIAR, names=NAMES[:3]), paper.ack(LIAR)],
    "LEAVEs of which each names somebody else": lambda: [said(m.Leave(("site-0",))), said(m.Leave(("site-1",)))],
    "questions": lambda: [said(m.Want("words", ())), said(m.Want("sum", ()))],
    "records": lambda: [said(m.Confirm(H, H, b"{}", bytes(64))), said(m.Confirm(V, H, b"{}", bytes(64)))],
    "chunks, which nobody signs": lambda: [said(m.Chunk(D, 0, b"a")), said(m.Chunk(D, 0, b"b"))],
    "digests of two chunks": lambda: [signed_sum(LIAR, 2), signed_sum(LIAR, 1, by=LIAR)],
    "tags under two challenges": lambda: [tags(LIAR), tags(LIAR, challenge=V)],
    "statements of two attempts": lambda: [said(m.Ready(D, V)), said(m.Ready(D, H), attempt=1)],
    "statements of two peers": lambda: [said(m.Ready(D, V)), paper.by("site-0", m.Ready(D, H))],
    "the bundle's own nonce": lambda: [DEALT.bundle, said(m.Nonce(V, DEALT.nonce))],
    "another process's nonce": lambda: [DEALT.bundle, said(m.Nonce(V, H), process="other")],
    "a true tag": lambda: [MEMBERS, root(LIAR), tags(LIAR), opened(LIAR)],
    "words that the root does not hold": lambda: [MEMBERS, root(LIAR), tags(LIAR), opened(LIAR, data=bytes(16))],
    "words of another chunk": lambda: [MEMBERS, root(LIAR), tags(LIAR, lie=True), opened(LIAR, 0, data=words(LIAR, 1))],
    "another member's words": lambda: [MEMBERS, root(LIAR), tags(LIAR, lie=True), opened("site-0")],
    "a chunk that there is not": lambda: [MEMBERS, root(LIAR), tags(LIAR, lie=True), opened(LIAR, 0, data=b"x")],
    "a root of another set": lambda: [
        said(paper.members(survivors=NAMES[1:]).message),
        root(LIAR),
        tags(LIAR, lie=True),
        opened(LIAR),
    ],
    "a true sum": lambda: false_sum(lie=0),
    "a digest of a chunk that it does not own": lambda: [MEMBERS, signed_sum(LIAR, 1, 1, by=LIAR), *false_sum(1)[2:]],
    "a digest under another attempt digest": lambda: [
        MEMBERS,
        said(m.SumDigest(H, 2, H, roots_digest(ROOTS))),
        *false_sum()[2:],
    ],
    "the words of all but one, one of them twice": lambda: [*false_sum()[:-1], opened(NAMES[2], 2)],
    "good shares": lambda: [DEALT.bundle, paper.backup("site-0", DEALT), paper.backup("site-3", DEALT)],
    "one share many times": lambda: [FALSE_DEAL.bundle, *[paper.backup("site-0", FALSE_DEAL)] * 4],
    "a share shown by two": lambda: [
        FALSE_DEAL.bundle,
        paper.backup("site-0", FALSE_DEAL),
        paper.by("site-3", paper.backup("site-0", FALSE_DEAL).message),
    ],
    "shares of another bundle": lambda: [
        FALSE_DEAL.bundle,
        paper.backup("site-0", DEALT),
        paper.backup("site-3", DEALT),
    ],
    "shares of another dealer": lambda: [
        FALSE_DEAL.bundle,
        *(paper.backup(name, paper.deal("site-1")) for name in ("site-0", "site-3")),
    ],
}


@pytest.mark.claim("LIAR-4")
@pytest.mark.parametrize("name", INNOCENT)
def test_what_an_honest_peer_may_sign_or_others_may_make_up_convicts_nobody(name: str) -> None:
    wires = [letter.wire for letter in INNOCENT[name]()]
    with pytest.raises(Malformed):
        convict(wires, paper.roster)
    assert convicted(wires, paper.roster) == ""


# ── roots that an accuser makes up ────────────────────────────────────────────────────────────────────────────


def framed(made: Sequence[Letter], index: int = 2, *, roots: Sequence[Letter] = (), **words: bytes) -> list[Letter]:
    """A true sum of an honest owner, beside `made` in place of the first member's Root; signed under `roots`."""
    signed: Any = signed_sum(NAMES[index], index).message
    digest_of = paper.by(NAMES[index], replace(signed, roots=roots_digest(list(roots)))) if roots else None
    shown = [opened(name, index, data=words.get(name.replace("-", "_"), b"")) for name in NAMES]
    return [MEMBERS, digest_of or signed_sum(NAMES[index], index), *made, *ROOTS[1:], *shown]


@pytest.mark.claim("LIAR-4")
def test_a_root_that_the_accuser_made_up_does_not_convict_an_honest_owner() -> None:
    """A second root of a liar's own, over other words: the owner signed under which roots it summed."""
    other = bytes(8)
    made = root(NAMES[0], chunk_2=other)
    assert judged(framed([made], site_0=other)) == ""
    assert judged(framed([made], roots=[made, *ROOTS[1:]], site_0=other)) == NAMES[2], "then it would have lied"
    assert judged([root(NAMES[0]), made]) == NAMES[0], "it has signed two"


def test_a_root_in_another_field_convicts_no_honest_owner() -> None:
    """Though it summed under it.

    61-bit words read as 31-bit ones add up to something else; an owner checks shapes before it sums, anyway.
    """
    made = root(NAMES[0], ((31, 2 * 5),))  # the same bytes, the same chunks: (4, 2, 2, 2) words
    assert judged(framed([made])) == ""
    assert judged(framed([made], roots=[made, *ROOTS[1:]])) == ""


SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "a field that there is not": ((5, 5),),
    "more words than any memory holds": ((61, (1 << 53) - 1),),
    "many of those": ((16, (1 << 53) - 1),) * 64,
    "no words": ((61, 0),),
    "no segments": (),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_root_of_any_shape_is_judged_at_once_and_convicts_nobody_else(name: str) -> None:
    made = root(LIAR, SHAPES[name])
    assert judged([MEMBERS, made, tags(LIAR), opened(LIAR)]) == ""
    roots = [root(each, SHAPES[name]) for each in NAMES]
    signed = paper.by(LIAR, m.SumDigest(D, 2, H, roots_digest(roots)))
    assert judged([MEMBERS, signed, *roots, *(opened(each, 2) for each in NAMES)]) == ""


@pytest.mark.parametrize("survivors", [(), ("nobody",), ("site-0", "site-0")])
def test_a_set_that_the_accuser_made_up_carries_no_proof(survivors: tuple[str, ...]) -> None:
    made = paper.by("site-0", m.Members(survivors, (), (), (), survivors, 1, ()))
    honest = paper.by(LIAR, m.Root(attempt_digest(made), ((61, 5),), bytes(64)))  # which it never signs
    assert judged([made, honest, tags(LIAR), opened(LIAR)]) == ""
    assert judged([made, root(LIAR), tags(LIAR), opened(LIAR)]) == ""


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x93",
        bytes(100),
        m.seal(m.Leave(()), m.Envelope(H, 1, 1, 0, "stranger", bytes(16)), paper.identities[LIAR]).wire,
    ],
)
def test_what_is_no_letter_of_the_roster_is_malformed(wire: bytes) -> None:
    for proof in ([wire], [root(LIAR).wire, wire], [wire, root(LIAR).wire]):
        with pytest.raises(Malformed):
            convict(proof, paper.roster)
