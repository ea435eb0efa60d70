"""Looks with noise: whoever is away, so many as were agreed on, and each charged to the held-out units before it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from p2pfl import codec
from p2pfl.cli.main import run as cli
from p2pfl.errors.federation import SettingsDoNotFit
from p2pfl.errors.privacy_units import LooksOverspend, MeasureNotPrivate, UnitsMixed
from p2pfl.errors.training import AccountUnreadable
from p2pfl.federation.federation import Federation
from p2pfl.ledger.verify import check_site
from p2pfl.node.epochs import AGREED
from p2pfl.node.progress import unseen
from p2pfl.node.runs import looks as looks_file
from p2pfl.node.runs import set_back
from p2pfl.node.runs.accounts import read_accounts
from p2pfl.node.runs.looks import LOOKS_SPENT, MEASURED, NO_LOOK, Looks
from p2pfl.node.runs.passes import charge_forgotten
from p2pfl.node.runs.training import TrainingRun
from p2pfl.sharing import events as e
from p2pfl.sharing.field import FIELDS
from p2pfl.simulate.training import federation_of
from p2pfl.training.measures.measure import UNIT, Figure
from p2pfl.training.measures.private import PrivateBinary, PrivateJoint
from p2pfl.training.privacy.account import Account, Mechanism
from tests.federation.sample import CARDS, draft, peers_yaml
from tests.node.runs.homes import NAMES, Four, Place, applied, attempt_digest, places, times
from tests.training.settings import draw_of

JUDGE = PrivateJoint([PrivateBinary()])
NOISE, LOOKS, LIMIT = 5.0, 2, 1.5
SETTINGS = (
    f"measures.noise_multiplier={NOISE}",
    f"measures.looks={LOOKS}",
    f"measures.epsilon={LIMIT}",
    "rounds=3",
)


def counted() -> np.ndarray:
    """A thousand held-out records of each class, a good model's."""
    counts = np.zeros(JUDGE.size, np.int64)
    counts[2:8], counts[16 + 8 : 16 + 14] = 167 * UNIT, 167 * UNIT
    return counts


@dataclass
class Counter(Four):
    """Counts that noise can hide, of two held-out records."""

    held: np.ndarray = field(default_factory=counted)
    slots: int = JUDGE.slots
    owners: tuple[bytes, ...] = (b"a" * 32, b"b" * 32)

    @property
    def counts(self) -> int:
        return JUDGE.size

    def held_out_names(self) -> tuple[bytes, ...]:
        return self.owners

    def figures(self, total: np.ndarray, noise: float = math.nan) -> Mapping[str, Figure]:
        return JUDGE.figures(total, noise)


@pytest.fixture
def mine(tmp_path: Path) -> Place:
    found, _ = places(tmp_path, *SETTINGS)
    found.trainer, found.draw = Counter(), draw_of("looks")
    return found


def words_of(run: TrainingRun, number: int, base: int, survivors: tuple[str, ...] = NAMES) -> tuple[e.Vector, ...]:
    offer = run.propose(number, base)
    asked = e.Quantise(number, 0, attempt_digest(number), survivors, (offer.support,) * len(survivors))
    return run.words(asked)


def added(run: TrainingRun, number: int, base: int, survivors: tuple[str, ...] = NAMES) -> np.ndarray:
    """What this site adds to the sum of the counts."""
    scalars = words_of(run, number, base, survivors)[-1]
    return FIELDS[scalars.bits].centred(scalars.words)[: JUDGE.size]


def spent(place: Place) -> float:
    accounts = read_accounts(place.home, MEASURED)
    return max(accounts.epsilon(group.marks, 1e-5) for group in accounts.groups)


def noted(run: TrainingRun) -> list[codec.Facts]:
    held = (codec.read_facts(one.record) for one in run.logs.site.records())
    return [facts for facts in held if facts["kind"] == "look"]


def after_round(run: TrainingRun, number: int, survivors: tuple[str, ...]) -> codec.Facts:
    """The outcome of a round over `survivors`, all of which add what this site adds."""
    offer = run.propose(number, number - 1)
    words = words_of(run, number, number - 1, survivors)
    total = times(words, len(survivors))
    given = applied(number, number - 1, total, survivors, offer.support, codec.facts(offer.configuration))
    return run.apply(given)[1]


@pytest.mark.claim("DP-11")
def test_a_look_works_while_a_site_is_away_and_says_that_it_is_private(mine: Place) -> None:
    run = mine.started()
    assert after_round(run, 1, NAMES)["unmeasured"] == NO_LOOK, "the first model is none that anybody needs to judge"
    assert after_round(run, 2, NAMES)["unmeasured"] == NO_LOOK
    outcome = after_round(run, 3, NAMES[:2])
    assert outcome["private"] is True
    value, low, high = (float(part) for part in outcome["figures"]["auc"])
    assert 0.85 < low <= value <= high <= 1.0
    assert run.propose(4, 3).configuration["unmeasured"] == "", "and the last model has a look"
    assert after_round(run, 4, NAMES[1:])["private"] is True
    assert run.counting.decide(5, 4, 3, ends=True) == LOOKS_SPENT
    noise = {"noise_multiplier": repr(NOISE), "parts": 2}
    assert run.configuration["looks"] == {**noise, "looks": LOOKS, "slots": JUDGE.slots}


@pytest.mark.claim("DP-11")
def test_each_look_has_noise_of_its_own_as_wide_as_was_promised(mine: Place) -> None:
    """Two calls for the same round's words are two attempts: noise that came twice would cancel out."""
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    for number in (1, 2):
        after_round(run, number, NAMES)
    one, two = added(run, 3, 2), added(run, 3, 2)
    assert not np.any(one == two)
    honest = 2  # of each quorum, against all others that the secure sum holds out
    wide = np.concatenate([one, two]) - np.tile(counted(), 2)
    assert abs(wide.std() / UNIT / (NOISE / math.sqrt(honest)) - 1) < 0.35
    assert honest * looks.variance >= (NOISE * UNIT) ** 2 * JUDGE.slots, "what is left without the colluders' shares"


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize(("colluders", "honest"), [("null", 2), (1, 3)], ids=["as the sum", "one"])
def test_noise_holds_against_as_many_sites_as_were_agreed_on_and_the_account_says_so(
    tmp_path: Path, mine: Place, colluders: str | int, honest: int
) -> None:
    """Of five sites a quorum is four: two may pool what they see, as many as the secure sum holds out."""
    ending = f"privacy.colluders={colluders}"
    agreed = federation_of([f"s{place}" for place in range(5)], [*SETTINGS, ending])
    looks = Looks.of(agreed, mine.logs(), b"f" * 32, Counter(owners=(b"f" * 32,)))
    assert looks is not None
    assert 0 <= honest * looks.variance - (NOISE * UNIT) ** 2 * JUDGE.slots < honest
    looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    whole = Mechanism.from_facts(dict(looks.accounts.last["mechanism"]))
    assert (whole.parts, looks.facts["parts"]) == (honest, honest)
    assert whole.noise_multiplier == pytest.approx(NOISE, rel=2e-6)
    assert looks.accounts.alone() == Account([whole.alone]).epsilon(1e-5) > looks.accounts.epsilon()
    with pytest.raises(SettingsDoNotFit, match="two honest sites"):
        federation_of([f"s{place}" for place in range(5)], [*SETTINGS, "privacy.colluders=3"])


@pytest.mark.claim("DP-11")
def test_a_look_is_charged_to_the_held_out_before_they_are_counted(
    mine: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = mine.started(), list[tuple[float, int]]()

    def evaluate(model: np.ndarray) -> np.ndarray:
        seen.append((spent(mine), len(noted(run))))
        return counted()

    monkeypatch.setattr(mine.trainer, "evaluate", evaluate)
    for number in (1, 2):
        after_round(run, number, NAMES)
    assert spent(mine) == 0.0 and read_accounts(mine.home).groups == []
    added(run, 3, 2)
    one_look = Account().after(Mechanism(NOISE * (1 - 1e-6), 1.0, 1), 1e-5)
    assert seen == [(spent(mine), 1)] == [(pytest.approx(one_look, rel=1e-9), 1)], "and its entry is there"


@pytest.mark.claim("DP-11")
def test_who_may_look_no_more_adds_noise_alone(mine: Place) -> None:
    """Of attempts that come to nothing, say: nobody can tell, and the others' look is none the worse."""
    run = mine.started()
    for number in (1, 2):
        after_round(run, number, NAMES)
    tries = [added(run, 3, 2) for _ in range(6)]
    assert spent(mine) <= LIMIT
    means = [float(one.sum()) / counted().sum() for one in tries]
    assert min(means[:2]) > 0.9
    assert abs(means[-1]) < 0.1, "of two thousand records nothing is left"


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize("passes", [True, False], ids=["passes too", "looks alone"])
def test_a_home_that_was_set_back_looks_no_more_with_what_it_forgot(mine: Place, passes: bool) -> None:
    """It looked since the backup, and no peer holds how often: a look has no proposal. The account began at nothing."""
    run = mine.started()
    said = 1.0 if passes else 0.0
    for _ in range(2):  # each start of a stopped home hears its peers again
        charge_forgotten(mine.federation, mine.home, run.logs, run.run, unseen, said)
    looks = run.counting.looks
    assert looks is not None
    assert looks.accounts.epsilon() == LIMIT == float(noted(run)[-1]["after"])
    set_back.heard(mine.home, mine.federation)
    counts = looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    assert abs(float(counts.sum()) / counted().sum()) < 0.1, "noise alone"
    later = Looks.of(mine.federation, run.logs, b"l" * 32, Counter(owners=(b"z" * 32,)))
    assert later is not None
    assert later.accounts.epsilon() == LIMIT, "which records were looked at is forgotten, too"


@pytest.mark.claim("DP-11")
@pytest.mark.parametrize(("survivors", "charged"), [(NAMES, 1), (NAMES[1:], 0)], ids=["with it", "without it"])
def test_a_look_that_the_ledger_holds_and_this_home_forgot_is_charged(
    mine: Place, survivors: tuple[str, ...], charged: int
) -> None:
    """It was restored to between its pass and its look: its place in the run was the same, and no peer found it."""
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    plain = {"round": 2, "survivors": list(NAMES), "outcome": {"unmeasured": NO_LOOK}}
    record = {"round": 3, "survivors": list(survivors), "outcome": {"metric": "auc"}}
    for _ in range(2):
        looks.charge_forgotten([plain, record], 1)
        assert looks.accounts.passes == charged == len(noted(run))


@pytest.mark.claim("DP-11")
def test_each_look_is_noted_and_one_that_is_not_allowed_makes_the_log_as_long(mine: Place) -> None:
    """Its peers see how many entries the log has: fewer would say that the site's held-out units can afford no more."""
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    lengths, model = [len(run.logs.site)], np.zeros(4, np.float32)
    for number in range(1, 7):
        looks.look(number, 1, mine.draw, model)
        lengths.append(len(run.logs.site))
    assert {after - before for before, after in itertools.pairwise(lengths)} == {1}
    told = noted(run)
    assert [one["charged"] for one in told] == sorted((one["charged"] for one in told), reverse=True)
    count = sum(one["charged"] for one in told)
    assert 0 < count < 6 and run.logs.looks(run.run) == looks.accounts.passes == count
    taken, refused = told[count - 1], told[count]
    assert 0 < float(taken["after"]) <= LIMIT == float(taken["limit"]) and float(taken["alone"]) > float(taken["after"])
    assert taken["after"] == refused["before"] == refused["after"] and taken["data"] == refused["data"]
    assert [one.what for one in check_site(list(run.logs.site))] == []


def test_a_look_whose_entry_a_crash_cut_off_is_noted_at_the_next_start(mine: Place) -> None:
    looks = mine.started().counting.looks
    assert looks is not None
    looks.accounts.charge(3, 1)
    for _ in range(2):
        assert [(one["round"], one["charged"]) for one in noted(mine.started())] == [(3, True)]


def test_an_account_of_looks_that_was_taken_away_is_not_begun_anew(mine: Place) -> None:
    looks = mine.started().counting.looks
    assert looks is not None
    looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    with mine.home.charging():
        mine.home.remove(MEASURED)
    with pytest.raises(AccountUnreadable) as caught:
        mine.started()
    assert caught.value.evidence == "accounts/measured holds 0 looks of this study, the site log 1"


def test_studies_tells_what_the_looks_of_each_have_spent(mine: Place, capsys: pytest.CaptureFixture[str]) -> None:
    looks = mine.started().counting.looks
    assert looks is not None
    mine.home.replace(AGREED, mine.federation.raw)
    for expected in (None, 1, 2):
        if expected is not None:
            looks.look(expected, 1, mine.draw, np.zeros(4, np.float32))
        assert cli(["studies", "--home", str(mine.home.path), "--json"]) == 0
        (study,) = json.loads(capsys.readouterr().out)["studies"]
        assert (study["held_out"] and study["held_out"]["looks"]) == expected
    held = study["held_out"]
    assert held["epsilon"] == looks.accounts.epsilon() <= held["max_epsilon"] == LIMIT
    assert held["epsilon_alone"] == pytest.approx(looks.accounts.alone(), abs=1e-6)
    assert cli(["studies", "--home", str(mine.home.path)]) == 0
    told = capsys.readouterr().out
    assert f"no pass yet; held-out ε {held['epsilon']:.2f} of 1.5, 2 looks" in told
    assert "accounts of held-out records" in told and "2 records and patients  2 by trial" in told


def test_the_same_held_out_records_pay_in_every_study(mine: Place) -> None:
    run = mine.started()
    looks = run.counting.looks
    assert looks is not None
    other = Looks.of(run.federation, run.logs, b"o" * 32, Counter(owners=(b"b" * 32, b"c" * 32)))
    assert other is not None
    looks.look(3, 1, mine.draw, np.zeros(4, np.float32))
    assert other.accounts.epsilon() == looks.accounts.epsilon() > 0
    third = Looks.of(run.federation, run.logs, b"p" * 32, Counter(owners=(b"c" * 32,)))
    assert third is not None and third.accounts.epsilon() == 0.0
    patients = Federation.parse(_of_patients(*SETTINGS, "privacy.unit=patient"))
    with pytest.raises(UnitsMixed):
        Looks.of(patients, run.logs, b"q" * 32, Counter())


def _of_patients(*settings: str) -> bytes:
    table = b"columns:\n  age: {number: years, low: 0, high: 120, centre: 50, scale: 30}\nlabel:\n"
    table += (
        b'  ill: {binary: ["no", "yes"], positive: ["yes"]}\nmodel: linear\nlearning_rate: 0.1\nexpected_batch: 4\n'
    )
    lines = draft.description_lines(table + b"patient: person\n", "task.yaml")
    return draft.peers_file("trial", [card.member for card in CARDS], lines, settings)


def test_what_cannot_be_looked_at_is_refused_at_the_start(mine: Place, tmp_path: Path) -> None:
    logs = mine.logs()
    with pytest.raises(MeasureNotPrivate, match="trainer"):
        Looks.of(mine.federation, logs, b"r" * 32, Four())
    many = Federation.parse(peers_yaml(*SETTINGS[:1], "measures.looks=60", SETTINGS[2]))
    with pytest.raises(LooksOverspend, match=r"the limit is 1\.5") as caught:
        Looks.of(many, logs, b"r" * 32, Counter())
    assert "60 looks" in caught.value.evidence
    assert Looks.of(Federation.parse(peers_yaml()), logs, b"r" * 32, Four()) is None
    client = peers_yaml("privacy=none", SETTINGS[0]).decode()
    start, end = client.index("  table:"), client.index("\nrounds")
    with pytest.raises(SettingsDoNotFit, match="no bound"):
        Federation.parse(
            (client[:start] + "  client: sklearn\n  first: zeros\n  metrics: [auc]\n" + client[end:]).encode()
        )


@pytest.mark.parametrize(("rounds", "most", "due"), [(8, 4, [2, 4, 6, 8]), (3, 2, [2, 3]), (2, 9, [1, 2]), (5, 1, [5])])
def test_looks_are_spread_over_the_rounds(mine: Place, rounds: int, most: int, due: list[int]) -> None:
    settings = (SETTINGS[0], f"rounds={rounds}", f"measures.looks={most}", "measures.epsilon=9")
    looks = Looks.of(Federation.parse(peers_yaml(*settings)), mine.logs(), b"s" * 32, Counter())
    assert looks is not None
    taken, seen = 0, []
    for trained in range(rounds + 1):
        if not looks.reason(trained, taken, ends=trained == rounds):
            taken += 1
            seen.append(trained)
    assert seen == due
    assert looks.reason(rounds, most, ends=True) == looks_file.LOOKS_SPENT
