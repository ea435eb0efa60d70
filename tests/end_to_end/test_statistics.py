"""Questions between real processes on real hospitals' records, one of which is killed in the middle."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfl.federation import Federation
from p2pfl.node.question_file import statistic_of
from p2pfl.node.runs.site_tables import CsvFile, read_records
from p2pfl.statistics.lockstep import in_lockstep
from p2pfl.training.data import deal
from tests.end_to_end.conftest import MakeSites
from tests.end_to_end.processes import Sites

QUESTION = {"kind": "describe", "columns": [{"column": name} for name in ("age", "sex", "cp")]}
ASK = [{"ask": QUESTION, "patience_s": 2.0}]
RULES = ("statistics.standing=[describe]",)


def with_records(sites: Sites) -> dict[str, bytes]:
    """Each site's CSV: the hospitals' records, dealt to as many sites."""
    held = dict(zip(sites.names, deal(len(sites.names)).files.values(), strict=True))
    for name, raw in held.items():
        sites[name].folder.mkdir(exist_ok=True)
        (sites[name].folder / "records.csv").write_bytes(raw)
    return held


def pooled(sites: Sites, held: dict[str, bytes], names: list[str]) -> Any:
    """The figure of one table that holds the records of those sites."""
    federation = Federation.load(sites.peers)
    statistic, schema = statistic_of(QUESTION, federation, "the test"), federation.task.table
    assert schema is not None
    header = held[names[0]].split(b"\n", 1)[0] + b"\n"
    whole = CsvFile(header + b"".join(held[name].split(b"\n", 1)[1] for name in names))
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


@pytest.mark.claim("STAT-3")
def test_a_site_that_dies_before_the_data_are_summed_is_left_out_of_the_question(make: MakeSites) -> None:
    """It was in the roll call: so the first guard is void, and the question begins anew over the rest."""
    sites = make(4, *RULES)
    held = with_records(sites)
    moment = {"told": {"event": "phase", "phase": "propose", "round": 2}}
    *others, victim = sites.names
    ends = {name: sites.site(name, ASK, linger=3.0) for name in others}
    assert sites.site(victim, ASK, die=moment).end().status == -9
    for process in ends.values():
        ended = process.end()
        assert ended.status == 0, ended.text
        (answer,) = ended.facts["given"]
        assert answer["survivors"] == others
        assert same(answer["result"], pooled(sites, held, others))


@pytest.mark.claim("STAT-1", "STAT-3")
def test_one_of_five_dies_between_two_sums_and_the_question_ends_until_all_ask_again(make: MakeSites) -> None:
    sites = make(5, *RULES)
    held = with_records(sites)
    moment = {"told": {"event": "phase", "phase": "propose", "round": 5}}  # roll call, guard in two rounds, sum 1
    *others, victim = sites.names
    ends = [sites.site(name, ASK, linger=3.0) for name in others]
    assert sites.site(victim, ASK, die=moment).end().status == -9
    for process in ends:
        ended = process.end()
        assert ended.status == 1 and "P2P-STATS-008" in ended.text, ended.text
        assert '"result"' not in ended.text
    for process in [sites.site(name, ASK) for name in sites.names]:
        ended = process.end()
        assert ended.status == 0, ended.text
        (answer,) = ended.facts["given"]
        assert answer["survivors"] == sites.names
        assert same(answer["result"], pooled(sites, held, sites.names))
    assert len(sites.roots()) == 1
