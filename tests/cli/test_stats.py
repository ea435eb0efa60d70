"""Each kind of question from its options: as the command line writes it, and as a file of its own says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli.main import run
from p2pfl.cli.stats import KINDS, asking
from p2pfl.cli.stats.asking import cell_text, intervals_text
from p2pfl.cli.stats.kinds import ALSO
from p2pfl.federation import Federation, statistics_rules
from p2pfl.node import question_file
from p2pfl.statistics.crosstab import Crosstab
from p2pfl.statistics.describe import Histogram
from p2pfl.statistics.question import TextTable
from p2pfl.statistics.registry import STATISTICS
from tests.cli.sites import Sites

TASK = """\
columns:
  age: {number: years, low: 0, high: 120, centre: 55, scale: 10}
  chol: {number: mg/dl, low: 50, high: 700, centre: 220, scale: 50}
  months: {number: months, low: 0, high: 240, centre: 60, scale: 60}
  followed: {number: years, low: 0.1, high: 20, centre: 5, scale: 5}
  visits: {number: visits, low: 0, high: 50, centre: 5, scale: 5}
  risk: {number: "1", low: 0, high: 1, centre: 0.5, scale: 0.5}
  sex: {code: [female, male]}
  ward: {code: [north, south, east]}
label:
  died: {binary: ["no", "yes", unknown], positive: ["yes"]}
model: linear
learning_rate: 0.01
expected_batch: 2.0
"""

ASKED = {
    "describe": "--columns age,sex,chol --bins 8",
    "table-one": "--group sex --columns age,ward",
    "histogram": "--column age --edges 20:80:6",
    "quantiles": "--column chol --probabilities .25,.5,.75",
    "crosstab": "--rows sex --columns ward",
    "correlation": "--columns age,chol,months",
    "ttest": "--column chol --group sex --levels male,female",
    "anova": "--column chol --group ward",
    "km": "--time months --event died --positive yes --grid 12,24,60",
    "logrank": "--time months --event died --positive yes --grid 12,24,60 --group sex",
    "linear": "--outcome chol --covariates age,sex",
    "logistic": "--outcome died --positive yes,unknown --covariates age,ward --ridge 0.5",
    "poisson": "--outcome visits --covariates age,sex --exposure followed",
    "cox": "--time months --event died --positive yes --covariates age,sex --grid 12:60:4 --no-by-site",
    "roc": "--score risk --outcome died --positive yes --edges 0:1:20",
    "calibration": "--score risk --outcome died --positive yes --edges .2,.4,.6,.8",
    "meta": "--measure difference --column chol --group sex --levels male,female",
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Sites:
    folder = tmp_path_factory.mktemp("sites")
    (folder / "task.yaml").write_text(TASK)
    return Sites(folder, files=dict.fromkeys(("ada", "ben", "cyd"), b""), task=str(folder / "task.yaml"))


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    run([*arguments, "--json"])
    facts: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return facts


def test_there_is_a_verb_for_every_kind_and_the_rules_know_them_all() -> None:
    assert set(statistics_rules.KINDS) == set(STATISTICS)
    assert set(KINDS) == {*STATISTICS, *ALSO} == set(ASKED)


def test_a_question_that_nobody_approved_here_is_refused_before_any_link_is_made(
    sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.csv"
    records.write_text("age,chol,months,followed,visits,risk,sex,ward,died\n" + "50,200,9,2,3,0.1,male,north,no\n" * 9)
    where = [*sites.common("ada"), "--data", str(records), "--listen", "192.0.2.1:7443"]  # no address of this machine
    found = called(capsys, "stats", "describe", "--columns", "age", *where)
    assert found["error"]["code"] == "P2P-STATS-004"


@pytest.mark.parametrize("verb", ASKED)
def test_what_is_proposed_is_read_as_the_same_question(
    verb: str, sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P2PFL_TRACEBACK", "1")
    name = sites.names[0]
    common = [*sites.common(name), "--key-file", str(sites.folder / name / "site.key")]
    proposed = called(capsys, "stats", "propose", verb, *ASKED[verb].split(), "-o", str(tmp_path / "q.yaml"), *common)
    assert "error" not in proposed, proposed
    federation = Federation.load(sites.peers)
    found = question_file.load(tmp_path / "q.yaml", federation)
    assert question_file.text_of(found.statistic, federation) == proposed["told"]
    assert proposed["told"]["kind"] == ALSO.get(verb, (verb, ()))[0]


@pytest.mark.parametrize(
    ("line", "code", "evidence"),
    [
        ("describe --columns age,postcode", "P2P-STATS-009", "the columns are age"),
        ("histogram --column sex --edges 0,1", "P2P-STATS-050", ""),
        ("histogram --column age --edges 3:1:0", "P2P-USE-001", "LOW:HIGH:COUNT"),
        ("describe --columns age --bins many", "P2P-STATS-050", "bins must be a whole number"),
        ("logrank --time months --event died --positive yes --grid 12", "P2P-USE-001", "--group"),
        ("approve", "P2P-USE-001", "QUESTION.yaml and --standing"),
        ("approve --standing describe,guesses", "P2P-USE-001", "guesses"),
    ],
)
def test_a_question_that_cannot_be_is_refused_with_its_reason(
    line: str, code: str, evidence: str, sites: Sites, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, words = sites.names[0], line.split()
    common = [*sites.common(name), "--key-file", str(sites.folder / name / "site.key")]
    more = [] if words[0] == "approve" else ["-o", str(tmp_path / "q.yaml")]
    before = [] if words[0] == "approve" else ["propose"]
    found = called(capsys, "stats", *before, *words, *more, *common)["error"]
    assert (found["code"], evidence in found["evidence"]) == (code, True), found
    assert not (tmp_path / "q.yaml").exists()


def test_a_site_is_told_what_its_word_on_standing_kinds_comes_to(
    sites: Sites, capsys: pytest.CaptureFixture[str]
) -> None:
    name = sites.names[0]
    common = [*sites.common(name), "--key-file", str(sites.folder / name / "site.key")]
    for kinds, what in (
        ("none", "every question needs an approval here"),
        ("km,cox", "no approval is needed here for km, cox"),
        ("agreed", "every question needs an approval here"),  # as this peers.yaml has it
    ):
        capsys.readouterr()
        assert run(["stats", "approve", "--standing", kinds, *common]) == 0
        assert what in capsys.readouterr().out


def test_an_answer_with_noise_says_which_figures_hold_it_and_which_do_not() -> None:
    held, bare = intervals_text(Crosstab.held, Crosstab.not_held).splitlines()[1:]
    assert "noise included: odds ratio low" in held
    assert "more certain than they are: chi2, p" in bare
    assert intervals_text(Histogram.held, Histogram.not_held) == ""


def test_a_column_that_nothing_is_in_is_not_shown() -> None:
    table = TextTable(
        "3 records", ("column", "count", "min from", "mean"), (("age", 3, None, 61.5), ("sex", 2, None, None))
    )
    _, header, *rows = asking._table(table, [[None, 0.5, None, 0.25], [None, None, None, None]]).splitlines()
    assert header.split() == ["column", "count", "mean"]
    assert [row.split() for row in rows] == [["age", "3", "±0.5", "61.5", "±0.25"], ["sex", "2", "–"]]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (53.1353, "53.14"),
        (0.912162, "0.9122"),
        (3.98104e-15, "3.981e-15"),
        (123456.78, "123456.8"),
        (-2048.0, "-2048"),
        (6.0, "6"),
        (1e12, "1e+12"),
        (float("nan"), "–"),
        (None, "–"),
        (123456789, "123456789"),
        ("yes", "yes"),
    ],
)
def test_a_number_has_four_digits_for_people(cell: Any, text: str) -> None:
    assert cell_text(cell) == text
