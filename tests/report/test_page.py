"""The page: one file that loads and runs nothing, escapes every word from elsewhere, and is the same each time."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the extra [report]")
pytest.importorskip("jinja2", reason="needs the extra [report]")

from p2pfl.ledger.witness import HeldNotes
from p2pfl.report import drawings
from p2pfl.report.page import page, ranges
from p2pfl.report.study import Beside, Curves, SentBytes, report_of
from tests.ledger.sample import look
from tests.report.sample import Sample, model_of

EVIL = "</title></style></script><script>alert(1)</script><img src=x onerror=alert(1)> \"'&$x^2$ {{7*7}}"
LONG = [f"universitaetsklinikum-no-{chr(97 + k // 10)}{k % 10}" for k in range(20)]
ODD = {
    "training": Sample(),
    "plain": Sample(unit="none"),
    "segmentation": Sample(metric="dice", figures={"dice": ["0.8", "0.7", "0.9"], "dice_1": ["0.8", "", ""]}),
    "sums": Sample(rounds=0, questions=("mean age", "x" * 190)),
    "statistics": Sample(rounds=0, questions=["km of age"] * 4, parts=["roll call", "sum 1", "roll call", "guard 1"]),
    "one round": Sample(rounds=1),
    "twenty sites": Sample(names=LONG, rounds=4, absent={2: LONG[15:19]}),
    "never measured": Sample(names=LONG[:4], absent=dict.fromkeys(range(1, 5), (LONG[3],))),
}

# Of the last model of Sample(rounds=3), which the round that measures it names.
CURVES = Curves(model_of(4), 5, [(0, 0), (0.2, 0.9), (1, 1)], [(0.1, 0.2, 0.1, 0.3), (0.9, 0.8, 0.7, 0.9)])


CARD = {"model": {"parameters": 3, "digest": "ab" * 32}, "licence": None, "threshold": None, "task": {}}


class Tags(HTMLParser):
    """Every element and attribute of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def made(folder: Path, sample: Sample, beside: Beside | None = None) -> str:
    folder.mkdir(exist_ok=True)
    with sample.write_into(folder) as home:
        report = report_of(home, HeldNotes(), beside or Beside(), "p2pfl 0", "2026-01-01 00:00:00Z", audit=True)
    return page(report)


@pytest.mark.claim("REPORT-1")
@pytest.mark.parametrize("which", ODD)
def test_a_page_of_any_study_is_one_file_that_loads_and_runs_nothing(which: str, tmp_path: Path) -> None:
    text = made(tmp_path, ODD[which])
    found = Tags(text)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "action", "srcset")]
    assert all(value.startswith("#") for name, value in found.attributes if name in ("href", "xlink:href"))
    assert not re.search(r"url\((?!#)|@import|javascript:|[\"'(]\s*data:", text)
    policies = [value for name, value in found.attributes if name == "content" and "-src" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for name, value in found.attributes if name == "aria-labelledby"} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


@pytest.mark.parametrize(
    ("unmeasured", "which"),
    [((), None), ((4,), "of the model after 2 of 3 rounds"), ((2, 3, 4), "of the model before the first round")],
)
def test_figures_of_an_earlier_model_than_the_last_say_so(
    unmeasured: tuple[int, ...], which: str | None, tmp_path: Path
) -> None:
    text = made(tmp_path, Sample(absent=dict.fromkeys(unmeasured, ("ucl",))))
    assert text.count("the last one was not measured: not every site is in the sum") == (2 if which else 0)
    assert which is None or text.count(which) == 2, "at a glance, and above the table of all figures"


def test_looks_at_held_out_records_are_told_at_a_glance(tmp_path: Path) -> None:
    text = " ".join(Tags(made(tmp_path, Sample(own=[look("0", "0.6", alone="1.25"), look("0.6", "0.9")]))).said)
    assert "Privacy of one held-out record" in text and "ε = 0.90" in text and "2 looks at the model" in text


@pytest.mark.claim("REPORT-1")
def test_no_word_of_a_peer_becomes_markup(tmp_path: Path) -> None:
    """A federation's name, figures, questions, purposes, a task's text, a card: what others may have written."""
    card = {
        "model": {"parameters": 3, "digest": EVIL},
        "licence": EVIL,
        "threshold": EVIL,
        "task": {
            "table": {
                "columns": [{"name": EVIL, "code": [EVIL]}, {"name": EVIL, "number": EVIL, "low": EVIL, "high": EVIL}]
            }
        },
    }
    sample = Sample(
        federation=EVIL[:120],
        metric=EVIL,
        figures={EVIL: ["0.8", "0.7", "0.9"], "sensitivity": ["0.9", "0.8", "1"]},
        questions=(EVIL,),
        configuration={"mechanism": EVIL},
    )
    text = made(tmp_path, sample, Beside(task=EVIL, card=card, no_card=EVIL))
    found = Tags(text)
    assert not {"script", "img"} & set(found.tags)
    assert "<script" not in text.lower()
    assert "49" not in re.findall(r"x\^2\$ (\S+)", " ".join(found.said))
    whole = " ".join(found.said)
    assert whole.count(EVIL) >= 6, "it is shown as it was written"


def test_a_page_is_the_same_bytes_whenever_it_is_made(tmp_path: Path) -> None:
    with Sample(rounds=0, questions=("mean age",)).write_into(tmp_path) as home:
        report = report_of(home, HeldNotes(), Beside(), "p2pfl 0", "2026-01-01 00:00:00Z", audit=False)
    assert page(report) == page(report)
    first, second = (drawings.roc([(0, 0), (1, 1)], [(0.8, 0.7, 0.9), (0.9, 0.8, 1)], "AUC") for _ in range(2))
    assert first == second
    assert "<metadata" not in first.svg


def test_every_picture_says_in_words_what_it_shows(tmp_path: Path) -> None:
    beside = Beside(
        sent=[SentBytes(1, 20_000, 18_000), SentBytes(2, 21_000, 18_000)],
        curves=CURVES,
    )
    text = made(tmp_path, Sample(names=("charite", "ham", "st-olav", "ucl"), absent={2: ["ucl"]}), beside)
    alts = re.findall(r'<span class="alt" id="([a-z]+)-alt">(.*?)</span>', text, re.S)
    assert [name for name, _ in alts] == ["participation", "metric", "roc", "calibration", "epsilon", "traffic"]
    assert text.count("<svg") == len(alts)
    other = made(tmp_path / "other", Sample(rounds=2), beside)
    assert "calibration-alt" not in other, "curves are of another model"
    said = dict(alts)
    assert "ucl in 3 of 4" in said["participation"]
    assert "0.871" in said["metric"]
    assert "2.50 after round 3, of at most 3 agreed" in said["epsilon"]
    assert "said 0.10, was 0.20" in said["calibration"]
    assert "sensitivity 0.900, specificity 0.800" in said["roc"]
    assert "20.50 kB on average" in said["traffic"]
    assert "since it was started again" not in text


def test_bytes_of_a_round_that_was_taken_up_are_told_as_those_since_then(tmp_path: Path) -> None:
    beside = Beside(sent=[SentBytes(1, 20_000, 18_000), SentBytes(2, 1_000, 900, taken_up=True)])
    text = " ".join(made(tmp_path, Sample(), beside).split())
    assert "all of them counted; in round 2 those since it was started again. The dashed line" in text


def test_a_statistic_that_ended_at_a_guard_is_told_to_have_opened_nothing(tmp_path: Path) -> None:
    text = " ".join(made(tmp_path, ODD["statistics"]).split())
    assert "roll call, sum 1" in text
    assert text.count("ended at its guard 1: nothing of it was opened") == 1
    assert '<td class="n">3–4</td>' in text


def test_the_noise_on_a_statistic_and_what_it_costs_are_told(tmp_path: Path) -> None:
    noise = {"noise_multiplier": "4.0", "parts": 2, "unit": "patient"}
    asked = {"statistic": {"part": "sum 1", "question": "0" * 64, "noise": noise}}
    sample = Sample(rounds=0, questions=["describe of age"], parts=["sum 1"], configuration=asked)
    text = " ".join(made(tmp_path, sample).split())
    assert "with noise: multiplier 4.0 for each patient, of 2 sites’ parts" in text


@pytest.mark.claim("NOISE-3")
def test_noise_in_parts_is_told_with_what_holds_against_all_other_hospitals(tmp_path: Path) -> None:
    """It was said to hold against anybody, and each hospital to add all of it."""
    parts = Sample(agreed={"noise": "distributed", "parts": 2})
    card = {**CARD, "privacy": {"epsilon_alone": "7.25"}}
    text = " ".join(made(tmp_path / "parts", parts, Beside(card=card)).split())
    assert "those of 2 honest hospitals are enough" in text and "against one hospital, ε = 7.25 holds" in text
    assert "7.25 against all other hospitals together" in text and "holds against anybody," not in text
    assert "in parts of which those of 2 hospitals make it up" in text
    unknown = " ".join(made(tmp_path / "unknown", parts).split())
    assert "a larger ε holds, which the model&#39;s card names" in unknown
    own = " ".join(made(tmp_path / "own", Sample()).split())
    assert "holds against anybody," in own and "other hospitals together" not in own


def test_neighbours_of_one_state_are_one_bar_unless_each_stands_alone() -> None:
    cells = ["none", "in", "in", "out", "in", "none", "in"]
    assert drawings.runs_of(cells, alone=False) == [(1, 2, "in"), (3, 1, "out"), (4, 1, "in"), (6, 1, "in")]
    assert len(drawings.runs_of(cells, alone=True)) == 5


def test_entry_numbers_are_told_in_ranges() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0–2, 5, 7–8"
    assert ranges(range(0, 200, 2)).endswith("… 100 in all")
