"""Questions between real processes on real hospitals' records, one of which is killed in the middle."""

from __future__ import annotations

import json
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.federation import Federation
from p2pfl.ledger.log import Log
from p2pfl.node.question_file import statistic_of
from p2pfl.node.question_terms import told_of
from p2pfl.node.runs.site_tables import read_records
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.training.records.given_table import GivenTable
from p2pfl.training.tasks.heart_records import deal
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import PATIENCE_S, Sites


def of(kind: str, **parameters: Any) -> dict[str, Any]:
    return told_of(kind, parameters)


DESCRIBE = of("describe", columns=["age", "sex", "cp"])
ASKED = (
    DESCRIBE,
    of("crosstab", rows="sex", columns="exang"),
)
RULES = ("statistics.standing=[describe, crosstab]",)


LAST = 5 + 3 + 5  # rounds of those, and of the first again: its last sum


def event_of(line: str) -> dict[str, Any]:
    """What a process told."""
    found = json.loads(line) if line.startswith("{") else {}
    assert isinstance(found, dict)
    return found


def ask(question: dict[str, Any]) -> dict[str, Any]:
    return {"ask": question, "patience_s": 2.0}


def with_records(sites: Sites) -> dict[str, bytes]:
    """Each site's CSV: the hospitals' records, dealt to as many sites."""
    held = dict(zip(sites.names, deal(len(sites.names)).files.values(), strict=True))
    for name, raw in held.items():
        sites[name].folder.mkdir(exist_ok=True)
        (sites[name].folder / "records.csv").write_bytes(raw)
    return held


def pooled(sites: Sites, held: dict[str, bytes], names: list[str], question: dict[str, Any]) -> Any:
    """The figure of one table that holds the records of those sites."""
    federation = Federation.load(sites.peers)
    statistic, schema = statistic_of(question, federation, "the test"), federation.task.table
    assert schema is not None
    header = held[names[0]].split(b"\n", 1)[0] + b"\n"
    whole = GivenTable(header + b"".join(held[name].split(b"\n", 1)[1] for name in names))
    wanted = [one.name for one in statistic.variables]
    return in_lockstep(statistic, [read_records(schema, wanted, whole).table]).result.as_json()


def figures(result: Any) -> list[float | str | None]:
    if isinstance(result, dict):
        return [one for value in result.values() for one in figures(value)]
    if isinstance(result, (list, tuple)):
        return [one for value in result for one in figures(value)]
    return [result]


def same(found: Any, wanted: Any) -> bool:
    return len(figures(found)) == len(figures(wanted)) and all(
        one == other or one == pytest.approx(other, rel=1e-9)
        for one, other in zip(figures(found), figures(wanted), strict=True)
    )


def answers_without(sites: Sites, moment: dict[str, Any]) -> list[dict[str, Any]]:
    """What the others are answered when the last site dies at that moment.

    They would wait for it, to hand the last round over: each is killed once all have their answers.
    """
    victim = sites.names[-1]
    running = sites.linked(lambda name: [ask(DESCRIBE)], {victim: {"die": moment}}, linger=PATIENCE_S)
    assert running.pop(victim).end().status == -9
    answers = [process.given() for process in running.values()]
    for process in running.values():
        process.kill()
    return answers


@pytest.mark.claim("STAT-3")
def test_a_site_that_dies_before_the_data_are_summed_is_left_out_of_the_question(make: MakeSites) -> None:
    """It was in the roll call: so the first guard is void, and the question begins anew over the rest."""
    sites = make(4, *RULES)
    held = with_records(sites)
    moment = {"told": {"event": "phase", "phase": "propose", "round": 2}}
    others = sites.names[:-1]
    for answer in answers_without(sites, moment):
        assert answer["survivors"] == others
        assert same(answer["result"], pooled(sites, held, others, DESCRIBE))


@pytest.mark.claim("STAT-7", "STAT-9")
def test_with_noise_a_site_that_dies_is_left_out_and_the_others_charge_once(make: MakeSites) -> None:
    """The first noised sum was charged and is void: nothing of it left, so the question over the rest costs no more."""
    sites = make(4, *RULES, "statistics.noise_multiplier=8")
    held = with_records(sites)
    moment = {"told": {"event": "phase", "phase": "propose", "round": 2}}
    others, told = sites.names[:-1], []
    answers = answers_without(sites, moment)
    (wanted,) = pooled(sites, held, others, DESCRIBE)["quantities"]
    for name, answer in zip(others, answers, strict=True):
        assert answer["survivors"] == others
        (age,) = answer["result"]["quantities"]
        assert age["count"] != wanted["count"] or age["mean"] != wanted["mean"]
        assert abs(age["count"] - wanted["count"]) < 8 * 20 and abs(age["mean"] - wanted["mean"]) < 20
        told.append(answer["result"])
        with sites[name].opened() as home:
            site = [codec.read_facts(one.record) for one in Log.open(home, "site").records()]
        assert [one["mechanism"]["steps"] for one in site if one["kind"] == "charge"] == [2]
    assert told[0] == told[1] == told[2]


@pytest.mark.claim("STAT-1", "STAT-3")
def test_five_hospitals_answer_as_one_table_and_one_that_dies_in_the_middle_ends_it(make: MakeSites) -> None:
    """The last question is the first one again: when the victim dies, its roll call and its guard are through."""
    sites = make(5, *RULES)
    held = with_records(sites)
    orders = [*(ask(question) | {"patience_s": PATIENCE_S} for question in ASKED), ask(DESCRIBE)]
    *others, victim = sites.names
    dies = {"die": {"told": {"event": "phase", "phase": "propose", "round": LAST}}}
    running = sites.linked(lambda name: orders, {victim: dies}, linger=PATIENCE_S)
    assert running.pop(victim).end().status == -9
    for process in running.values():
        assert process.event("failed")["code"] == "P2P-STATS-008"
    for process in running.values():  # it would wait for the victim, to hand the last round over
        process.kill()
        given = [facts["given"] for facts in map(event_of, process.said) if facts.get("event") == "given"]
        assert len(given) == len(ASKED)
        for question, answer in zip(ASKED, given, strict=True):
            assert answer["survivors"] == sites.names
            assert same(answer["result"], pooled(sites, held, sites.names, question)), question["kind"]
    assert len({str(sites.verified(name).federation.root) for name in others}) == 1
