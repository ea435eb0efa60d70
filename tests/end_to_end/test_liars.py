"""Liars in real processes: what one may do to the others' progress, over real links."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from p2pfl.errors.round import BallotRejected, LeftOutTooOften
from tests.end_to_end.checks import entries
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.lies import SUMMED
from tests.end_to_end.processes import PATIENCE_S, Process, Sites
from tests.end_to_end.wires import HONEST, LIAR, VICTIM


@dataclass(frozen=True)
class Summed:
    """What an honest site was given for its sums, and all that its process said until then."""

    given: list[Any]
    said: list[str]


FAR_S = 60.0  # of which deadlines are made: none ends anything, whatever the machine does meanwhile (wires.py)


def start(sites: Sites, lies: dict[str, str], sums: int = 1) -> dict[str, Process]:
    """All sum powers of two; ben may do as it likes. They begin once all are linked, and leave when all have it."""
    return begun(
        sites,
        lies,
        {
            name: [{"sum": [(1 << place) + 16 * k], "patience_s": FAR_S} for k in range(sums)]
            for place, name in enumerate(sites.names)
        },
    )


def begun(sites: Sites, lies: dict[str, str], orders: dict[str, list[dict[str, Any]]]) -> dict[str, Process]:
    """By site its process, all linked and let through to their orders."""
    started = {
        name: sites.site(
            name,
            [sites[name].hold(), *orders[name]],
            linger=PATIENCE_S,
            **({"lie": lies[name]} if name in lies else {}),
        )
        for name in sites.names
    }
    for name, process in started.items():
        process.linked(*(started.keys() - {name}))
    for name in started:
        sites[name].open()
    return started


def summed(sites: Sites, lies: dict[str, str], sums: int = 1) -> dict[str, Summed]:
    """What the honest have."""
    started = start(sites, lies, sums)
    given = {name: [started[name].event("given")["given"] for _ in range(sums)] for name in HONEST}
    for process in started.values():
        process.kill()
    return {name: Summed(given[name], list(started[name].said)) for name in HONEST}


def breaches(sites: Sites, name: str) -> set[str]:
    return {one["peer"] for one in entries(sites[name], "site") if one["kind"] == "breach"}


@pytest.mark.claim("LIAR-3")
def test_an_abandonment_shown_to_one_site_alone_parts_nobody(make: MakeSites) -> None:
    """Two sites lack one ballot of attempt 0, and the third waits in attempt 1 with a liar that is silent."""
    sites = make(4)
    lies = {LIAR: "Wedge", "ada": "LateToVictim", "cyd": "LateToVictim", VICTIM: "AfterWedge"}
    for name, one in summed(sites, lies).items():
        (given,) = one.given
        assert (given["total"], given["survivors"]) == (["13"], list(HONEST))
        assert not breaches(sites, name)
        sites.verified(name)
    votes = {name: [vote for vote in entries(sites[name], "site") if vote["kind"] == "ballot"] for name in HONEST}
    first = {name for name in HONEST if any((vote["round"], vote["attempt"]) == (1, 0) for vote in votes[name])}
    assert first == {"ada", "cyd"}, "the victim went on without a ballot of its own"


def check_that_they_stand(started: dict[str, Process], places: dict[str, tuple[int, str]]) -> None:
    """The honest stand in these attempts and phases, and nothing can move them any more.

    The liar is silent, no clock of theirs runs, and they have looked twice and found nothing new since.
    """
    for name, (attempt, _) in places.items():
        started[name].event("out_of_time", round=1, attempt=attempt)
    for name, (attempt, phase) in places.items():
        for _ in range(2):
            assert started[name].event("waiting", round=1)["missing"]
        events = [json.loads(line) for line in started[name].said if line.startswith('{"event"')]
        entered = [(one["attempt"], one["phase"]) for one in events if one["event"] == "phase"]
        assert entered[-1] == (attempt, phase)
        assert not [one for one in events if one["event"] in ("round", "given", "left")]


def test_did_nobody_show_the_end_the_two_would_wait_for_one_another_for_ever(make: MakeSites) -> None:
    sites = make(4)
    lies = {LIAR: "Wedge", "ada": "WaitsWithoutEnd", "cyd": "WaitsWithoutEnd", VICTIM: "ShowsNoEnd"}
    check_that_they_stand(start(sites, lies), {"ada": (0, "ballot"), "cyd": (0, "ballot"), VICTIM: (1, "propose")})


@pytest.mark.claim("LIAR-3")
def test_a_sum_certified_for_one_site_comes_to_those_who_cast_leave_before(make: MakeSites) -> None:
    """Two wait for a ballot, ask nobody any more, and have cast LEAVE; the liar then certifies the sum for the third.

    It says nothing more, so that a quorum confirms only if the third shows the two what was certified.
    """
    sites = make(4)
    lies = {LIAR: "CertifiesForOne", "ada": "GivesUp", "cyd": "Waits", VICTIM: "VotesLast"}
    found = summed(sites, lies)
    for name, one in found.items():
        (given,) = one.given
        assert (given["total"], given["survivors"]) == (["15"], list(sites.names))
        assert not breaches(sites, name)
        sites.verified(name)
    votes = {name: [one["vote"] for one in entries(sites[name], "site") if one["kind"] == "ballot"] for name in HONEST}
    assert votes == {"ada": ["ABANDON"], "cyd": ["SURVIVORS"], VICTIM: ["SURVIVORS"]}


def test_were_no_certificate_shown_to_those_who_cast_leave_nobody_would_have_the_sum(make: MakeSites) -> None:
    sites = make(4)
    lies = {LIAR: "CertifiesForOne", "ada": "GivesUpForGood", "cyd": "WaitsForGood", VICTIM: "TellsNoLeavers"}
    check_that_they_stand(start(sites, lies), {"ada": (0, "ballot"), "cyd": (0, "ballot"), VICTIM: (0, "confirm")})


@pytest.mark.claim("LIAR-3")
def test_votes_for_another_set_end_no_process(make: MakeSites) -> None:
    sites = make(4)
    found = summed(sites, {LIAR: "TwoFaces", "ada": "Hurried", "cyd": "UnheardByVictim", VICTIM: "ShowsLate"})
    for name, one in found.items():
        (given,) = one.given
        assert (given["total"], given["survivors"]) == (["7"], list(SUMMED))
        assert breaches(sites, name) <= {LIAR}
        sites.verified(name)
    told = '"round": 1, "attempt": 0, "phase": "gather"'
    assert any(told in line for line in found[VICTIM].said), "the victim was in the set that it was told"


def test_were_they_judged_by_its_own_set_the_victims_process_would_end(make: MakeSites) -> None:
    sites = make(4)
    lies = {LIAR: "TwoFaces", "ada": "Hurried", "cyd": "UnheardByVictim", VICTIM: "JudgesByItsOwnSet"}
    assert start(sites, lies)[VICTIM].end().status == 3
    told = [one for one in entries(sites[VICTIM], "site") if one["kind"] == "breach"]
    assert {one["peer"] for one in told if one["code"] == BallotRejected.code} & set(HONEST)


@pytest.mark.claim("LIAR-12")
def test_who_acknowledges_nothing_of_a_victim_takes_turns_with_it(make: MakeSites) -> None:
    sites = make(4)
    for name in summed(sites, {LIAR: "Silence"} | dict.fromkeys(HONEST, "HearsOfSilence"), sums=6):
        sites.verified(name)
    rounds = [one for one in entries(sites["ada"], "federation") if one["kind"] == "round"]
    victim, liar = (sum(name in one["left_out"] for one in rounds) for name in (VICTIM, LIAR))
    assert victim + liar == 6, "no set holds both"
    assert victim <= liar + 2
    assert not [one for one in entries(sites[VICTIM], "site") if one["kind"] == "missed"]


def test_by_a_draw_that_all_know_the_victim_would_be_out_again_and_again_and_stop(make: MakeSites) -> None:
    sites = make(4, "rounds=6", "privacy.max_epsilon=100")
    lies = {LIAR: "Silence"} | dict.fromkeys(HONEST, "KnownDraw")
    ended = begun(sites, lies, {name: [{"train": 1}] for name in sites.names})[VICTIM].end()
    assert ended.facts["error"]["code"] == LeftOutTooOften.code
    missed = {one["round"] for one in entries(sites[VICTIM], "site") if one["kind"] == "missed"}
    assert len(missed) > 1
    rounds = [one for one in entries(sites[VICTIM], "federation") if one["kind"] == "round"]
    assert not [one for one in rounds if {LIAR, VICTIM} <= set(one["survivors"])]


ROOTS = [("TwoRoots", "LacksTags"), ("ByHalves", "LacksTags"), ("WordsOfTheOther", "LacksWords")]


@pytest.mark.claim("LIAR-3")
@pytest.mark.parametrize(("lie", "honest"), ROOTS, ids=[lie for lie, _ in ROOTS])
def test_two_roots_convict_who_signed_them_and_blame_no_owner(make: MakeSites, lie: str, honest: str) -> None:
    """Who owns the chunk that was summed under the second one, or could not be."""
    sites, proofs = make(4), set()
    for name, one in summed(sites, {LIAR: lie} | dict.fromkeys(HONEST, honest)).items():
        (given,) = one.given
        assert (given["total"], given["survivors"]) == (["13"], list(HONEST))
        told = [entry for entry in entries(sites[name], "site") if entry["kind"] == "breach"]
        assert {entry["peer"] for entry in told} == {LIAR}
        assert any(entry["proof"] for entry in told)
        proofs |= {entry["code"] for entry in told if entry["proof"]}
        sites.verified(name)
    assert proofs <= {"P2P-ROUND-005", "P2P-ROUND-019"}, "the two Roots are the proof, and nothing else is needed"
    assert "P2P-ROUND-005" in proofs


@pytest.mark.parametrize(("lie", "owners"), [("TwoRoots", {VICTIM}), ("ByHalves", {"cyd", VICTIM})])
def test_were_no_root_handed_on_the_owner_would_be_blamed_and_honest_processes_end(
    make: MakeSites, lie: str, owners: set[str]
) -> None:
    """Those of all who see the other Root."""
    sites = make(4)
    started = start(sites, {LIAR: lie} | dict.fromkeys(HONEST, "NoRootHandedOn"))
    for name in set(HONEST) - owners:
        assert started[name].end().status == 3
        told = [entry for entry in entries(sites[name], "site") if entry["kind"] == "breach"]
        blamed = {entry["peer"] for entry in told if entry["code"] == "P2P-ROUND-007"}
        assert blamed
        assert blamed <= owners


def test_were_no_root_shown_the_owner_would_be_out_and_the_liar_never_proven(make: MakeSites) -> None:
    sites = make(4)
    found = summed(sites, {LIAR: "WordsOfTheOther"} | dict.fromkeys(HONEST, "NoRootShown"), sums=2)
    for name, one in found.items():
        assert [each["survivors"] for each in one.given] == [["ada", LIAR, "cyd"]] * 2
        assert not [entry for entry in entries(sites[name], "site") if entry["kind"] == "breach" and entry["proof"]]
