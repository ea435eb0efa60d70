"""Two studies at one home: what they share, what each has for itself, and what one finds of the other's disk."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from p2pfl import codec
from p2pfl.clocks import SYSTEM
from p2pfl.errors.home import HomeBusy, NoSuchStudy, SeveralStudies
from p2pfl.errors.ledger import OtherFederation
from p2pfl.errors.round import AnotherCohort, RolledBack
from p2pfl.errors.training import AccountUnreadable, PassWouldOverspend, StudiesUnheard
from p2pfl.federation import Federation, draft
from p2pfl.home import Home, notes
from p2pfl.home.keyslots import KeyFile
from p2pfl.home.rekey import new_identity, take_identity
from p2pfl.home.segments import LogName
from p2pfl.keys import Identity
from p2pfl.ledger import note
from p2pfl.ledger.log import Log
from p2pfl.ledger.verify import verify
from p2pfl.node import questions, withdrawals
from p2pfl.node.logs import Logs
from p2pfl.node.other_logs import OtherLogs
from p2pfl.node.pending_change import PendingChange
from p2pfl.node.progress import unseen
from p2pfl.node.runs import set_back
from p2pfl.node.runs.accounts import ACCOUNT, read_accounts
from p2pfl.node.runs.cohort import Cohort
from p2pfl.node.runs.passes import charge_forgotten, charge_release
from p2pfl.node.runs.set_back import SET_BACK
from p2pfl.node.site import SiteProcess
from p2pfl.node.studies import Elsewhere, begin, open_study, studies_of, view, view_or_new
from p2pfl.node.withdrawals import checked_list, withdraw
from p2pfl.node.witness import SiteHeads
from p2pfl.peer import Peer
from p2pfl.peer.epoch import sums_run, training_run
from p2pfl.roster import Address, Member
from p2pfl.sharing import events as e
from tests.federation.sample import TASK
from tests.home.home_fixtures import Crash, Strike, make
from tests.node.runs.homes import (
    ME,
    NAMES,
    OTHERS,
    FourOf,
    Place,
    attempt_digest,
    by_others,
    charges,
    finished,
    masked,
    row,
)
from tests.ports import free_ports

OLD, NEW = (b"old 1", b"old 2"), (b"new 1", b"new 2")
SETTINGS = ("rounds=3", "privacy.max_epsilon=3")


class Hospital:
    """A home, and the peers.yaml of every study that it is to take part in."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder, self.held = folder, held
        with make(folder) as home:
            own = home.identity()
        self.identities = {ME: own, **{name: Identity(bytes([at]) * 32) for at, name in enumerate(NAMES[1:], 1)}}

    def file(self, name: str, *settings: str) -> Federation:
        """The peers.yaml of the study of that name."""
        members = [
            Member(site, one.key, (Address("10.0.0.1", 7000 + at),))
            for at, (site, one) in enumerate(self.identities.items())
        ]
        return Federation.parse(draft.peers_file(name, members, TASK, [*SETTINGS, *settings]))

    def open(self, federation: Federation) -> Place:
        """The home in that study, until the test is over."""
        entered = open_study(self.folder / ME, federation, unlock=[KeyFile()])
        home, agreed = self.held.enter_context(entered)
        return Place(home, agreed, self.identities)

    def reading(self) -> Home:
        return Home.open(self.folder / ME, write=False)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    with ExitStack() as held:
        yield Hospital(tmp_path, held)


@pytest.fixture
def heart(hospital: Hospital) -> Place:
    return hospital.open(hospital.file("heart"))


@pytest.fixture
def lungs(hospital: Hospital, heart: Place) -> Place:
    return hospital.open(hospital.file("lungs"))


def trained(place: Place, *records: bytes, number: int = 1) -> str:
    """A pass over those records; ε that the study's sites are told."""
    run = place.started(FourOf(brings=records))
    offer = run.propose(number, 0)
    masked(run, number, offer)
    run.logs.close()
    return offer.epsilon


def takes_acts(place: Place) -> tuple[PendingChange, Logs]:
    """As a process after a round: what people did is to be noted."""
    logs = place.logs()
    changes = PendingChange(place.home, logs, place.federation, unseen)
    changes._acts_at -= 1
    return changes, logs


# ── which study ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("HOME-10")
def test_the_first_study_lies_at_the_root_and_further_ones_in_folders(
    hospital: Hospital, heart: Place, lungs: Place
) -> None:
    root = hospital.folder / ME
    assert (heart.home.folder, lungs.home.folder) == (root, root / "studies" / "lungs")
    assert [one.federation.name for one in studies_of(heart.home)] == ["heart", "lungs"]
    assert heart.home.identity().key == lungs.home.identity().key
    for place in (heart, lungs):
        place.logs().close()
        assert verify(place.home).verified


@pytest.mark.claim("HOME-10")
def test_each_study_has_a_lock_of_its_own(hospital: Hospital, heart: Place, lungs: Place) -> None:
    for name in ("heart", "lungs"):
        with pytest.raises(HomeBusy):
            hospital.open(hospital.file(name))


def test_a_study_is_found_again_by_its_file_and_by_an_edited_one_until_it_has_begun(
    hospital: Hospital, heart: Place
) -> None:
    heart.home.close()
    edited = hospital.file("heart", "rounds=5")
    with open_study(hospital.folder / ME, edited, unlock=[KeyFile()]) as (home, _):
        assert home.study == ""
        Place(home, edited, hospital.identities).logs().close()
    for name, other in (("heart", hospital.file("heart")), ("lungs", hospital.file("lungs"))):
        if name == "heart":
            with pytest.raises(OtherFederation):
                hospital.open(other)
        else:
            assert hospital.open(other).home.study == "lungs"


def test_a_verb_needs_no_word_in_a_home_of_one_study_and_asks_in_one_of_more(hospital: Hospital, heart: Place) -> None:
    with hospital.reading() as home:
        assert view(home, None).study == ""
    lungs = hospital.file("lungs")
    hospital.open(lungs)
    with hospital.reading() as home:
        with pytest.raises(SeveralStudies) as caught:
            view(home, None)
        assert "heart, lungs" in caught.value.render()
        assert view(home, lambda: lungs).study == "lungs"
        with pytest.raises(NoSuchStudy):
            view(home, lambda: hospital.file("third"))


def test_a_file_of_another_study_is_refused_in_a_home_of_one_study_too(hospital: Hospital, heart: Place) -> None:
    with hospital.reading() as home:
        assert view(home, lambda: hospital.file("heart")).study == ""
        with pytest.raises(NoSuchStudy) as caught:
            view(home, lambda: hospital.file("lungs"))
        assert "its studies: heart" in caught.value.evidence


@pytest.mark.claim("HOME-10", "STAT-6")
@pytest.mark.parametrize("before", ["", "heart"])
def test_what_is_approved_before_the_first_round_is_of_that_study_alone(before: str, hospital: Hospital) -> None:
    if before:
        hospital.open(hospital.file(before)).home.close()
    lungs, question = hospital.file("lungs"), {"kind": "describe", "columns": []}
    with hospital.reading() as home:
        assert not questions.approvals(view_or_new(home, lungs)).questions
        questions.approve(begin(home, lungs), lungs, question)
        assert questions.check(view_or_new(home, lungs), lungs, question, "describe") == "approved"
        assert begin(home, lungs).study == ("lungs" if before else "")
    for name in ("heart", "kidneys"):
        place = hospital.open(hospital.file(name))
        assert not questions.approvals(place.home).questions, name
        place.home.close()
    place = hospital.open(lungs)
    assert questions.check(place.home, lungs, question, "describe") == "approved"


def test_a_file_that_was_edited_after_its_study_began_is_still_seen_as_that_studys(
    hospital: Hospital, heart: Place
) -> None:
    Place(heart.home, heart.federation, hospital.identities).logs().close()
    with hospital.reading() as home:
        assert view_or_new(home, hospital.file("heart", "rounds=5")).study == ""
        with pytest.raises(OtherFederation):
            begin(home, hospital.file("heart", "rounds=5"))


# ── one account ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("DP-9")
def test_two_studies_on_the_same_records_spend_what_the_accountant_says_of_both(heart: Place, lungs: Place) -> None:
    from p2pfl.training.privacy.account import decimal_epsilon
    from p2pfl.training.privacy.accountant import upper_bound

    trained(heart, *OLD)
    told = trained(lungs, *OLD, *NEW)
    privacy = heart.federation.privacy
    joint = [(privacy.noise_multiplier, privacy.sample_rate, 2 * privacy.steps_per_round)]
    assert told == decimal_epsilon(upper_bound(joint, privacy.delta))


@pytest.mark.claim("DP-9")
def test_what_another_study_spent_is_told_to_this_sites_operator_with_its_name(
    hospital: Hospital, heart: Place
) -> None:
    for number in (1, 2, 3):
        trained(heart, *OLD, number=number)
    small = hospital.file("lungs", "privacy.max_epsilon=1.5")
    lungs = hospital.open(small)
    run = lungs.started(FourOf(brings=OLD))
    with pytest.raises(PassWouldOverspend) as caught:
        run.propose(1, 0)
    assert "3 by heart, the last on 2023-11-14 22:13Z" in caught.value.render()
    assert read_accounts(lungs.home).studies[training_run(small)].passes == 0
    trained(lungs, *NEW)


@pytest.mark.claim("DP-9")
def test_two_processes_that_charge_at_once_do_not_both_spend_what_is_left_for_one(
    hospital: Hospital, heart: Place
) -> None:
    """The budget allows one pass more; both ask whether it does before either charges."""
    tight = ("privacy.max_epsilon=1.2",)
    one, other = (hospital.open(hospital.file(name, *tight)) for name in ("lungs", "liver"))
    runs = [place.started(FourOf(brings=OLD)) for place in (one, other)]
    both, outcomes = threading.Barrier(2), list[str]()

    def charge(at: int) -> None:
        accounts = runs[at].passes.accounts
        accounts.check_next_pass()
        both.wait(240)
        try:
            accounts.charge(1, 5)
        except PassWouldOverspend:
            outcomes.append("refused")
        else:
            outcomes.append("charged")

    threads = [threading.Thread(target=charge, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert sorted(outcomes) == ["charged", "refused"]


@pytest.mark.claim("DP-9")
@pytest.mark.parametrize("finds", ["heart", "lungs"])
def test_an_account_that_was_set_back_is_found_by_either_study(heart: Place, lungs: Place, finds: str) -> None:
    trained(heart, *OLD)
    older = heart.home.read(ACCOUNT) or b""
    trained(lungs, *OLD)
    with heart.home.charging():
        heart.home.replace(ACCOUNT, older)
    with pytest.raises(AccountUnreadable):
        {"heart": heart, "lungs": lungs}[finds].started(FourOf(brings=OLD))


def test_a_charge_between_two_steps_of_another_study_changes_none_of_its_numbers(heart: Place, lungs: Place) -> None:
    """A pass is numbered by the charges of its own study, and repeated whatever the other one did meanwhile."""
    run = heart.started(FourOf(brings=OLD))
    begun = run.passes.begin(1, 0, bytes(32), b"inputs", lambda count: bytes(count))
    trained(lungs, *OLD)
    run.passes.charge(begun)
    trained(lungs, *OLD, number=2)
    run = heart.started(FourOf(brings=OLD))
    assert run.passes.may_repeat(b"inputs")
    assert run.passes.charge(begun).number == 1
    held = read_accounts(heart.home).studies
    assert [held[training_run(place.federation)].passes for place in (heart, lungs)] == [1, 2]
    assert len(charges(run)) == 1


# ── a backup takes the accounts back for all of them ──────────────────────────────────────────────────────────


@pytest.fixture
def restored(hospital: Hospital, heart: Place, lungs: Place) -> tuple[Place, Place, str]:
    """Both studies on a home from before the second pass of lungs; and ε that its sites were told after that."""
    trained(heart, *OLD)
    trained(lungs, *OLD)
    here, backup = hospital.folder / ME, hospital.folder / "backup"
    shutil.copytree(here, backup)
    said = trained(lungs, *OLD, number=2)
    hospital.held.close()
    shutil.rmtree(here)
    backup.rename(here)
    return hospital.open(heart.federation), hospital.open(lungs.federation), said


def told(place: Place, said: str) -> None:
    """The study's sites have said hello, and shown what they had been told under this site's own signature."""
    run = place.started(FourOf(brings=OLD))
    run.logs.learn_spent(float(said))
    try:
        run.propose(2, 0)
    finally:
        run.logs.close()


@pytest.mark.claim("DP-13")
def test_no_study_of_a_restored_home_trains_before_the_sites_of_all_have_been_heard(
    restored: tuple[Place, Place, str],
) -> None:
    heart, lungs, said = restored
    set_back.found(lungs.home)  # one of lungs' sites has shown it a later head of its own
    for _ in range(2):
        with pytest.raises(StudiesUnheard, match="lungs"):
            trained(heart, *OLD, number=2)
    assert len(charges(heart.started())) == 1
    told(lungs, said)
    assert heart.home.read(SET_BACK) is None
    assert float(trained(heart, *OLD, number=2)) > float(said)  # it knows now what lungs had spent, and adds to that


@pytest.mark.claim("DP-13")
def test_were_the_other_studies_not_waited_for_the_same_budget_would_be_spent_again(
    restored: tuple[Place, Place, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heart, lungs, said = restored
    set_back.found(lungs.home)
    monkeypatch.setattr(set_back, "check", lambda home, federation: None)
    assert float(trained(heart, *OLD, number=2)) <= float(said)  # as if the second pass of lungs had not been


def test_a_study_that_learns_what_its_home_forgot_makes_the_others_wait(restored: tuple[Place, Place, str]) -> None:
    """As one does that was recovered, and is stopped by nobody any more."""
    heart, lungs, said = restored
    with pytest.raises(StudiesUnheard, match="heart"):
        told(lungs, said)
    trained(heart, *OLD, number=2)
    trained(lungs, *OLD, number=2)


def rounds_of(place: Place, *numbers: int, **more: Any) -> None:
    """Rounds that its other sites finished come into the study's log; more: in their outcome."""
    run = place.started(FourOf(brings=OLD))
    for number in numbers:
        after, outcome = by_others(run, number, number - 1)
        finished(place, run, number, after, {**outcome, **more}, survivors=[*OTHERS], left_out=[ME])
    run.logs.close()


def test_a_study_whose_rounds_are_all_in_its_log_is_not_waited_for(restored: tuple[Place, Place, str]) -> None:
    heart, lungs, _ = restored
    set_back.found(heart.home)
    rounds_of(lungs, 1, 2, 3)
    trained(heart, *OLD, number=2)


OVER = pytest.mark.parametrize(
    ("setting", "waits"),
    [("statistics.noise_multiplier=20", True), ("statistics.questions=7", False)],
    ids=["its questions are charged", "they are exact"],
)


@pytest.mark.claim("DP-13")
@OVER
def test_a_trained_study_that_still_charges_for_questions_is_waited_for(
    hospital: Hospital, heart: Place, setting: str, waits: bool
) -> None:
    """Its sites may have asked some since the backup, and they alone know what that cost."""
    lungs = hospital.open(hospital.file("lungs", setting))
    rounds_of(lungs, 1, 2, 3)
    trained(heart, *OLD)
    set_back.found(heart.home)
    with pytest.raises(StudiesUnheard, match="lungs") if waits else nullcontext():
        trained(heart, *OLD, number=2)


@pytest.mark.claim("DP-13")
@pytest.mark.parametrize(("called", "waits"), [("average", True), ("decimals", False)])
def test_a_trained_study_that_has_averaged_is_waited_for(
    hospital: Hospital, heart: Place, called: str, waits: bool
) -> None:
    """`Peer.average` goes on behind the last round, and each call is charged; an exact sum is not."""
    lungs = hospital.open(hospital.file("lungs"))
    rounds_of(lungs, 1, 2, 3)
    run = lungs.started(FourOf(brings=OLD))
    asked = {"purpose": "sum", "name": "theirs", "vectors": [{"as": called}, {"as": "salt"}]}
    facts = codec.read_facts(row(run, lungs.identities, 1, bytes(32), {}, configuration=asked)[0])
    record = codec.facts({**facts, "run": sums_run(lungs.federation).hex()})
    run.logs.finish(record, {name: one.sign("record", record) for name, one in lungs.identities.items()})
    run.logs.close()
    trained(heart, *OLD)
    set_back.found(heart.home)
    with pytest.raises(StudiesUnheard, match="lungs") if waits else nullcontext():
        trained(heart, *OLD, number=2)


def test_a_study_that_ended_early_by_its_rule_is_not_waited_for(hospital: Hospital, heart: Place) -> None:
    """Its sites have left, and nobody would ever be heard."""
    lungs = hospital.open(hospital.file("lungs", "stop.patience=1"))
    rounds_of(lungs, 1, 2, metric="auc", figures={"auc": ["0.500000", "0.4", "0.6"]})
    trained(heart, *OLD)
    set_back.found(heart.home)
    trained(heart, *OLD, number=2)


def a_study_begun_now_waits_for(heart: Place, hospital: Hospital) -> None:
    """One that begins in the same home charges nothing before `heart`'s sites were heard."""
    lungs = hospital.open(hospital.file("lungs"))
    with pytest.raises(StudiesUnheard, match="heart"):
        trained(lungs, *OLD)
    set_back.heard(heart.home, heart.federation)
    trained(lungs, *OLD)


@pytest.mark.claim("DP-13")
def test_a_study_begun_in_a_restored_home_waits_for_the_one_before(hospital: Hospital, heart: Place) -> None:
    """Among three sites nobody can let the first one go on: a federation is begun anew, over the same records."""
    trained(heart, *OLD)
    set_back.found(heart.home)
    a_study_begun_now_waits_for(heart, hospital)


@pytest.mark.claim("DP-13")
def test_a_study_that_had_not_begun_in_the_backup_is_waited_for_too(hospital: Hospital, heart: Place) -> None:
    """A backup from the day of the installation: all that was spent since is known to the sites of that study alone."""
    set_back.found(heart.home, heart.federation)
    a_study_begun_now_waits_for(heart, hospital)


@pytest.mark.claim("DP-13")
def test_a_study_that_never_trains_is_waited_for_no_longer_than_its_next_charge(heart: Place) -> None:
    """One of noised statistics or averages: q−1 of its sites have said hello before a round of it begins."""
    trained(heart, *OLD)
    set_back.found(heart.home)
    logs = heart.logs()
    charge_release(heart.federation, heart.home, logs, training_run(heart.federation), unseen)
    logs.close()
    assert heart.home.read(SET_BACK) is None


def forgotten(place: Place, said: float) -> None:
    """The study's sites have shown, before it was stopped, that this site had told them of so much."""
    logs = place.logs()
    charge_forgotten(place.federation, place.home, logs, training_run(place.federation), unseen, said)
    set_back.heard(place.home, place.federation)
    logs.close()


@pytest.mark.claim("DP-13")
def test_what_a_stopped_study_had_spent_counts_in_the_next_one(hospital: Hospital, heart: Place) -> None:
    said = 2 * float(trained(heart, *OLD))
    forgotten(heart, said)
    assert float(trained(hospital.open(hospital.file("lungs")), *OLD)) > said


@pytest.mark.claim("HOME-5")
@pytest.mark.parametrize(("factor", "stopped"), [(2.0, True), (1.0, False)])
def test_a_home_whose_account_was_mended_stays_stopped(heart: Place, factor: float, stopped: bool) -> None:
    """Its account alone would no longer show a peer's hello to be later; one that knew all may be the newer copy."""
    forgotten(heart, factor * float(trained(heart, *OLD)))
    logs = heart.logs()
    site = SiteProcess(heart.identities[ME], ME, heart.federation.roster, bytes(16), heart.federation.digest, SYSTEM)
    heads = SiteHeads(site, heart.home, logs)
    with pytest.raises(RolledBack) if stopped else nullcontext():
        asyncio.run(heads.check(OTHERS[0], b""))
    asyncio.run(SiteHeads(replace(site, federation_digest=bytes(32)), heart.home, logs).check(OTHERS[0], b""))
    logs.close()


def test_a_home_that_a_peer_shows_to_be_older_makes_its_other_studies_wait(
    hospital: Hospital, heart: Place, lungs: Place
) -> None:
    trained(heart, *OLD)
    trained(lungs, *OLD)
    hospital.held.close()

    async def shown() -> None:
        listen = f"127.0.0.1:{free_ports(1)[0]}"
        async with Peer.join(lungs.federation, home=hospital.folder / ME, listen=listen, linger_s=0.0):
            raise RolledBack(peer="uppsala", site=ME, evidence="a later head")

    with pytest.raises(RolledBack):
        asyncio.run(shown())
    with pytest.raises(StudiesUnheard, match="lungs"):
        trained(hospital.open(heart.federation), *OLD, number=2)


# ── what one study must not take for its own ──────────────────────────────────────────────────────────────────


@pytest.mark.claim("HOME-10")
def test_what_a_site_signed_in_one_study_is_no_sign_of_a_set_back_home_in_another(heart: Place, lungs: Place) -> None:
    """Who takes part in both could else stop a process of this home with its own words."""
    logs = lungs.logs()
    head = note.parse_note(logs.site_head() or "")[0]
    logs.close()
    elsewhere = Elsewhere(heart.home, OtherLogs())
    assert elsewhere.has_head(head)
    assert elsewhere.has_run(training_run(lungs.federation))
    assert elsewhere.has_run(sums_run(lungs.federation))
    assert not Elsewhere(lungs.home, OtherLogs()).has_head(head)
    assert not elsewhere.has_head(replace(head, root=bytes(32)))
    assert not elsewhere.has_run(training_run(heart.federation))


def shown_in_the_other(heart: Place, lungs: Place) -> Logs:
    """A member of both shows, in the one, the head of this site's log that it cosigned in the other."""
    trained(lungs, *OLD)
    logs = lungs.logs()
    text = logs.site_head() or ""
    logs.close()
    shown = note.cosign(text, NAMES[1], heart.identities[NAMES[1]]).encode()
    logs = heart.logs()
    site = SiteProcess(heart.identities[ME], ME, heart.federation.roster, bytes(16), heart.federation.digest, SYSTEM)
    asyncio.run(SiteHeads(site, heart.home, logs).check(NAMES[1], shown))
    return logs


@pytest.mark.claim("HOME-10")
def test_a_head_of_another_studys_log_stops_nobody_and_charges_nothing(heart: Place, lungs: Place) -> None:
    assert shown_in_the_other(heart, lungs).spent().get(ME, 0.0) == 0.0


def test_the_logs_of_other_studies_are_read_beside_the_loop(
    heart: Place, lungs: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may hold the entries of years, and a peer chooses when it shows a head."""
    threads, asked, read = set[int](), Elsewhere.has_head, Elsewhere.has_run

    def has_head(self: Elsewhere, head: note.Head) -> bool:
        threads.add(threading.get_ident())
        return asked(self, head)

    def has_run(self: Elsewhere, run: bytes) -> bool:
        threads.add(threading.get_ident())
        return read(self, run)

    monkeypatch.setattr(Elsewhere, "has_head", has_head)
    monkeypatch.setattr(Elsewhere, "has_run", has_run)
    logs = shown_in_the_other(heart, lungs)
    site = SiteProcess(heart.identities[ME], ME, heart.federation.roster, bytes(16), heart.federation.digest, SYSTEM)
    heads = SiteHeads(site, heart.home, logs)
    assert asyncio.run(heads.of_another_study(training_run(lungs.federation)))
    assert threads and threading.get_ident() not in threads


def test_were_the_other_studies_not_asked_a_member_of_both_would_stop_this_one(
    heart: Place, lungs: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "has_head", lambda self, head: False)
    with pytest.raises(RolledBack):
        shown_in_the_other(heart, lungs)


@pytest.mark.claim("SUM-14")
def test_data_that_were_summed_in_one_study_are_not_summed_in_another(heart: Place, lungs: Place) -> None:
    """Sites of one name may be others there; and two sums over sets that differ by a site are that site's value."""
    supports = (b"",) * len(NAMES)
    effect = e.Quantise(1, 0, attempt_digest(1), NAMES, supports)
    Cohort(heart.logs(), sums_run(heart.federation), "cases", [bytes(32)]).bind(effect, effect.survivors)
    with pytest.raises(AnotherCohort) as caught:
        Cohort(lungs.logs(), sums_run(lungs.federation), "cases", [bytes(32)]).bind(effect, effect.survivors)
    assert "of the study heart" in caught.value.render()
    Cohort(lungs.logs(), sums_run(lungs.federation), "cases", [bytes(31) + b"\1"]).bind(effect, effect.survivors)


@pytest.mark.claim("SUM-14")
def test_another_studys_log_is_decrypted_when_it_has_changed_and_not_before(
    heart: Place, lungs: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years of the other study would else be read before each sum; and what it summed just now binds the next one."""
    opened: list[tuple[str, str]] = []
    plain = Log.open

    def counted(home: Home, which: LogName) -> Log:
        opened.append((home.study, which))
        return plain(home, which)

    supports = (b"",) * len(NAMES)
    effect = e.Quantise(1, 0, attempt_digest(1), NAMES, supports)
    theirs, mine = heart.logs(), lungs.logs()
    run = sums_run(lungs.federation)
    monkeypatch.setattr(Log, "open", counted)
    for mark in (b"\1", b"\2", b"\3"):
        Cohort(mine, run, "cases", [mark * 32]).bind(effect, effect.survivors)
    assert opened == [("", "site")]
    Cohort(theirs, sums_run(heart.federation), "cases", [b"\4" * 32]).bind(effect, effect.survivors)
    opened.clear()
    with pytest.raises(AnotherCohort):
        Cohort(mine, run, "cases", [b"\4" * 32]).bind(effect, effect.survivors)
    assert opened == [("", "site")]


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("HOME-10")
def test_a_key_that_is_changed_in_one_study_stays_as_it_was_in_the_other(heart: Place, lungs: Place) -> None:
    before = heart.home.identity().key
    after = new_identity(heart.home).key
    take_identity(heart.home, lambda: None)
    assert (heart.home.identity().key, lungs.home.identity().key) == (after, before)
    assert lungs.home.newest_identity().key == after, "the card for studies to come"
    last = new_identity(lungs.home).key
    take_identity(lungs.home, lambda: None)
    assert (heart.home.identity().key, lungs.home.identity().key) == (after, last)


# ── who withdrew ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("HOME-15")
@pytest.mark.parametrize("again", [False, True], ids=["nobody after it", "somebody after it"])
def test_a_withdrawal_is_told_by_one_study_wherever_its_process_dies(tmp_path: Path, again: bool) -> None:
    """It counted twice, and then more had withdrawn by the logs than by the list, so that nothing was computed."""
    for at in itertools.count():
        folder = tmp_path / str(at)
        folder.mkdir()
        with ExitStack() as held:
            hospital = Hospital(folder, held)
            heart, lungs = (hospital.open(hospital.file(name)) for name in ("heart", "lungs"))
            withdraw(hospital.reading(), [OLD[0] * 7], 1_700_000_000)
            changes, logs = takes_acts(heart)
            heart.home.disk.fault = Strike(Crash, at)
            with suppress(Crash):
                changes.take_acts()
            died = heart.home.disk.fault.seen > at
            heart.home.disk.fail("dead")
            heart.home.close()
            if again:
                withdraw(hospital.reading(), [OLD[1] * 7], 1_700_000_000)
            for place in (lungs, hospital.open(heart.federation)):
                changes, logs = takes_acts(place)
                changes.take_acts()
                found = checked_list(place.home, logs)
                logs.close()
            told = logs.withdrawn() + sum(one.withdrawn() for _, one in Elsewhere(place.home, OtherLogs()).site_logs())
            assert (found.marks.size, told, notes.pending(place.home)) == (1 + again, 1 + again, []), f"step {at}"
        if not died:
            break
    assert at > 10


def test_a_withdrawal_is_told_though_a_process_takes_up_the_one_before_it(
    hospital: Hospital, heart: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes went into the log between the look at the one and at the other, so that the next one told of it."""
    withdraw(hospital.reading(), [OLD[0] * 7], 1_700_000_000)
    changes, logs = takes_acts(heart)
    opened = Log.open

    def taken_up(home: Home, which: LogName) -> Log:
        changes.take_acts()
        return opened(home, which)

    monkeypatch.setattr(withdrawals.Log, "open", taken_up)
    withdraw(hospital.reading(), [OLD[1] * 7], 1_700_000_000)
    waiting = sum(int(one.options["records"]) for one in notes.pending(heart.home))
    assert (logs.withdrawn(), waiting) == (1, 1)
    logs.close()
