"""A task in a process of its own: what it does there ends a pass at most, and never the site; real processes."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from p2pfl.errors.task_process import DataHoldsKeys, TaskAnswerUnusable, TaskOverreached, TaskProcessEnded
from p2pfl.errors.training import DeviceMissing, ModelDiverged, TaskFailed, TooFewRecords
from p2pfl.federation import Federation, draft
from p2pfl.keys import Secret
from p2pfl.node.progress import PassRepeated, PassWasCut, Progress
from p2pfl.node.runs.training import TrainingRun
from p2pfl.node.withdrawals import withdraw
from p2pfl.peer.epoch import training_run
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.local import Trainer
from p2pfl.training.passes import AT_ONCE, PassCut, PassStopped
from p2pfl.training.privacy.account import Account
from p2pfl.training.process import landlock, own_folder, seccomp
from p2pfl.training.process.child import HANDED_ON
from p2pfl.training.process.facts import Reach, TaskSource
from p2pfl.training.process.remote import RemoteTrainer
from p2pfl.training.process.wire import Wire
from p2pfl.training.records.records import Records, hold_out
from p2pfl.training.records.units import Units
from p2pfl.training.records.withdrawn import Withdrawn
from p2pfl.training.registry import described_task
from tests.federation.sample import CARDS
from tests.node.runs.homes import Place, charges, places
from tests.training.odd import KEY as HOLDOUT
from tests.training.odd import OddTrainer, folder_of, source_of
from tests.training.odd_task import Odd

SEED = Secret(bytes(range(32)), "seed of a test's pass")
PATIENCE_S = 120
SETTINGS = ("privacy.steps_per_round=4", "privacy.sample_rate=0.3", "privacy.max_epsilon=9.0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("task") / "data")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    mine, _ = places(tmp_path_factory.mktemp("homes"), *SETTINGS)
    with mine.home:
        yield mine


@pytest.fixture(scope="module")
def running(home: Place, data: Path) -> Iterator[OddTrainer]:
    with OddTrainer(data, [home.home.path]) as trainer:
        trainer.prepare(source_of(home.federation, data), HOLDOUT)
        yield trainer


@pytest.fixture
def trainer(running: OddTrainer, data: Path) -> Iterator[OddTrainer]:
    """Well behaved again after each test."""
    yield running
    (data / "do").write_text("")
    running.kills, running.stopping, running.at_once = 0, False, AT_ONCE


def one_pass(trainer: OddTrainer, home: Place) -> np.ndarray:
    return trainer.train(trainer.initial(bytes(32)), Account().charge(home.federation.privacy), SEED)


def run_of(home: Place, trainer: OddTrainer, seen: list[Progress]) -> TrainingRun:
    """As after a start of the node, on this home."""
    named = training_run(home.federation)
    return TrainingRun(
        home.federation, home.home, home.logs(), named, trainer, "odd", lambda n: bytes(range(n)), seen.append
    )


@pytest.fixture
def fresh(tmp_path: Path, home: Place) -> Iterator[Place]:
    """A home of its own, of the same settings."""
    mine, _ = places(tmp_path, *SETTINGS)
    with mine.home:
        yield mine


# ── a pass whose process ends ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("TASK-1")
def test_a_pass_whose_process_is_killed_is_made_again_to_the_bit_and_charged_once(
    trainer: OddTrainer, fresh: Place, data: Path
) -> None:
    seen: list[Progress] = []
    run = run_of(fresh, trainer, seen)
    trainer.kills = 2
    (data / "do").write_text("hang")
    nomination = run.propose(1, 0).support
    found = run.compressor.values(run.compressor.support({fresh.home.name: nomination}))
    begun_seed = Secret(bytes(range(32)), "the one that `run_of` draws")
    whole = trainer.train(
        trainer.initial(fresh.federation.first), Account().charge(fresh.federation.privacy), begun_seed
    )
    assert np.array_equal(found, whole)
    assert (run.account.passes, len(charges(run))) == (1, 1)
    assert [type(one) for one in seen if isinstance(one, PassWasCut | PassRepeated)] == 2 * [PassWasCut, PassRepeated]
    assert "SIGKILL" in next(one.how for one in seen if isinstance(one, PassWasCut))


@pytest.mark.claim("TASK-1")
def test_a_task_that_crashes_again_and_again_ends_the_site_in_order(
    trainer: OddTrainer, fresh: Place, data: Path
) -> None:
    """And its charge stands for the pass of the next start."""
    (data / "do").write_text("crash")
    run = run_of(fresh, trainer, [])
    with pytest.raises(TaskProcessEnded, match=r"3 times.*SIGSEGV"):
        run.propose(1, 0)
    assert run.account.passes == 1
    (data / "do").write_text("")
    again = run_of(fresh, trainer, [])
    assert again.propose(1, 0).support == run_of(fresh, trainer, []).propose(1, 0).support
    assert (again.account.passes, len(charges(again))) == (1, 1)


@pytest.mark.claim("TASK-1")
def test_a_step_that_lacks_memory_is_made_with_fewer_records_at_a_time(
    trainer: OddTrainer, fresh: Place, data: Path
) -> None:
    """The same pass, at no further charge; what is repeated after that adds up in the same order."""
    (data / "do").write_text("memory")
    seen: list[Progress] = []
    run = run_of(fresh, trainer, seen)
    nomination = run.propose(1, 0).support
    found = run.compressor.values(run.compressor.support({fresh.home.name: nomination}))
    assert run.account.passes == 1
    assert [one.at_once for one in seen if isinstance(one, PassWasCut)] == [32, 16, 8]
    (data / "do").write_text("")
    first = trainer.initial(fresh.federation.first)
    named = trainer.inputs(first)
    whole = trainer.train(first, Account().charge(fresh.federation.privacy), Secret(bytes(range(32)), "as drawn"))
    assert np.array_equal(found, whole)
    trainer.at_once = AT_ONCE
    assert trainer.inputs(first) != named


@pytest.mark.claim("HOME-15")
def test_whoever_withdrew_is_in_no_later_pass_of_the_process_nor_of_one_after_it(
    trainer: OddTrainer, fresh: Place, data: Path
) -> None:
    whole = one_pass(trainer, fresh)
    names, held, records = list(trainer.names()), set(trainer.held_out_names()), trainer.facts.records
    gone = [next(one for one in names if one not in held), next(iter(held))]
    run = run_of(fresh, trainer, [])
    withdraw(fresh.home, gone, 1)
    trainer.kills = 1  # in the pass or behind it: the next process is told too
    run.propose(1, 0)
    assert (trainer.facts.records, trainer.facts.held) == (records - 2, len(held) - 1)
    assert set(names) - set(trainer.names()) == set(gone)
    assert not np.array_equal(one_pass(trainer, fresh), whole)
    trainer.leave_out(Withdrawn(fresh.home.records_key()))
    assert np.array_equal(one_pass(trainer, fresh), whole)


def test_what_is_asked_beside_a_pass_is_answered_by_a_new_process(trainer: OddTrainer) -> None:
    model = trainer.initial(bytes(32))
    counts = trainer.evaluate(model)
    trainer._process._kill()
    assert np.array_equal(trainer.evaluate(model), counts)
    assert "auc" in trainer.figures(counts)


# ── a task that misbehaves ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.claim("TASK-1")
def test_a_task_that_ends_its_process_cuts_the_pass(trainer: OddTrainer, home: Place, data: Path) -> None:
    (data / "do").write_text("exit")
    with pytest.raises(PassCut, match="status 7"):
        one_pass(trainer, home)


def test_a_fault_of_the_thread_that_hears_a_process_is_not_told_as_one_of_its_start(
    trainer: OddTrainer, home: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults: list[str] = []

    def broken(self: Wire) -> None:
        raise RuntimeError("in the middle")

    trainer._process.end()
    monkeypatch.setattr(threading, "excepthook", lambda fault: faults.append(str(fault.exc_value)))
    monkeypatch.setattr(Wire, "receive", broken)
    with pytest.raises(TaskProcessEnded, match="heard no more"):
        one_pass(trainer, home)
    assert set(faults) == {"in the middle"}


@pytest.mark.claim("TASK-2")
def test_an_answer_of_another_form_is_no_answer(trainer: OddTrainer, home: Place, data: Path) -> None:
    (data / "do").write_text("rubbish")
    with pytest.raises((PassCut, TaskAnswerUnusable), match="letter"):
        one_pass(trainer, home)


@pytest.mark.claim("TASK-2")
def test_an_update_that_is_not_finite_goes_no_further(trainer: OddTrainer, home: Place, data: Path) -> None:
    (data / "do").write_text("nan")
    with pytest.raises(ModelDiverged):
        one_pass(trainer, home)


def test_a_task_may_print_as_much_as_it_likes_and_nobody_reads_it(
    trainer: OddTrainer, home: Place, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (data / "do").write_text("print")
    one_pass(trainer, home)
    assert "patient" not in "".join(capfd.readouterr())


def test_a_fault_of_the_task_is_told_with_its_line_and_no_value(trainer: OddTrainer, home: Place, data: Path) -> None:
    (data / "do").write_text("raise")
    with pytest.raises(TaskFailed, match=r"KeyError at odd_task.py:\d+") as caught:
        one_pass(trainer, home)
    assert "patient" not in caught.value.render()


@pytest.mark.claim("TASK-1")
def test_a_pass_that_hangs_is_ended_when_the_site_stops(trainer: OddTrainer, home: Place, data: Path) -> None:
    trainer._process.end()  # the next one counts its steps anew
    (data / "do").write_text("hang")
    ended = threading.Event()

    def stop(step: int, steps: int) -> None:
        if step == 2:
            trainer.stopping = True

    def train() -> None:
        with pytest.raises(PassStopped):
            one_pass(trainer, home)
        ended.set()

    before, trainer._progress = trainer._progress, stop
    thread = threading.Thread(target=train)
    thread.start()
    thread.join(PATIENCE_S)
    trainer._progress = before
    trainer._process.end()
    assert ended.is_set()


# ── what such a process has, and how it goes ──────────────────────────────────────────────────────────────────


@pytest.mark.claim("TASK-3")
def test_the_process_is_given_no_key_home_or_environment(
    trainer: OddTrainer, home: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.initial(bytes(32))
    place = Path(f"/proc/{trainer.number}")
    seen = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
    assert b"AWS_SECRET" not in seen and str(home.home.path).encode() not in seen
    rows = (place / "environ").read_bytes().split(b"\0")
    names = {row.partition("=")[0] for row in map(os.fsdecode, rows) if row}
    assert {"HOME", "TMPDIR", "PATH"} <= names and b"USER=task" in rows
    known = {"HOME", "TMPDIR", "PATH", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "USER"}
    assert {name for name in names if not name.startswith(HANDED_ON)} <= known


NODE = """
import sys
import tempfile
from p2pfl.training.process.child import HANDED_ON
from p2pfl.training.process.facts import Reach
from p2pfl.training.process.remote_task import RemoteTask
task = RemoteTask(Reach())
task._process._opened = True
while task.number is None:
    pass
print(task.number, flush=True)
sys.stdin.read()
"""


@pytest.mark.claim("TASK-1")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_death_of_the_site_leaves_the_process_behind(how: signal.Signals) -> None:
    node = subprocess.Popen([sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with node:
        number = int((node.stdout or sys.stdin).readline())
        watched = os.pidfd_open(number)
        node.send_signal(how)
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        assert poll.poll(1000 * PATIENCE_S), "it is still there"
        os.close(watched)


def test_a_folder_that_another_site_removes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made, make = [], tempfile.mkdtemp

    def taken_at_once(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) == 1:
            own_folder._remove_left()  # of a site that starts in this moment
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", taken_at_once)
    folder = own_folder.OwnFolder()
    assert [folder.path] == list(tmp_path.iterdir()) == [Path(made[1]).resolve()]
    folder.remove()


def test_the_folder_of_a_killed_site_is_removed_by_the_next_one_and_that_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "p2pfl-task-file").write_text("no folder")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def started() -> subprocess.Popen[str]:
        node = subprocess.Popen(
            [sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        (node.stdout or sys.stdin).readline()
        return node

    def folders() -> set[Path]:
        return {path for path in tmp_path.iterdir() if path.is_dir()}

    with started() as first, started() as second:
        both = folders()
        assert len(both) == 2
        first.kill()
        first.wait()
        assert folders() == both
        with started() as third:
            assert len(both - folders()) == 1, "that of the first"
            assert len(folders()) == 2
            third.kill()
        second.kill()


@pytest.mark.parametrize("what", ["few", "device"])
def test_what_is_wrong_with_the_records_or_the_device_is_told_as_ever(home: Place, tmp_path: Path, what: str) -> None:
    data = folder_of(tmp_path / "data")
    source = source_of(home.federation, data)
    if what == "few":
        (data / "records.csv").write_text("1,2,3,4,0\n")
    else:
        source = replace(source, device="cuda:77")
    with OddTrainer(data) as trainer, pytest.raises((TooFewRecords, DeviceMissing)):
        trainer.prepare(source, HOLDOUT)


# ── what it reaches for ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def reached(home: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """By what a task would do, to what: the home's files, the system's, a listening socket, the node's process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
        outside = tmp_path_factory.mktemp("outside")
        yield {
            "read the identity": f"read {home.home.path / 'identity'}",
            "read the keyslots": f"read {home.home.path / 'keyslots'}",
            "list the home": f"list {home.home.path}",
            "read the system's users": "read /etc/passwd",
            "read the node's environment": f"read /proc/{os.getpid()}/environ",
            "write a file": f"write {outside / 'file'}",
            "connect": f"connect {port}",
            "send a datagram": f"send {port}",
            "run a shell": "shell true",
            "make a process": "fork -",
            "signal the node": f"signal {os.getpid()}",
        }


REACHES = (
    *("read the identity", "read the keyslots", "list the home", "read the system's users"),
    *("read the node's environment", "write a file", "connect", "send a datagram", "run a shell"),
    *("make a process", "signal the node"),
)


@pytest.mark.claim("TASK-4")
@pytest.mark.skipif(not (landlock.version() and seccomp.is_known()), reason="this system has no walls for a process")
@pytest.mark.parametrize("what", REACHES)
def test_a_task_that_reaches_out_of_its_data_is_refused_with_its_line(
    trainer: OddTrainer, home: Place, data: Path, reached: dict[str, str], what: str
) -> None:
    assert trainer.walls == (True, True)
    (data / "do").write_text(f"reach {reached[what]}")
    with pytest.raises(TaskOverreached, match=r"at odd_task.py:\d+\."):
        for _ in range(3):  # until its third step
            one_pass(trainer, home)


@pytest.mark.parametrize("what", REACHES)
def test_in_the_sites_own_process_a_task_would_reach_all_of_that(
    home: Place, data: Path, reached: dict[str, str], what: str
) -> None:
    (data / "do").write_text(f"reach {reached[what]}")
    task = Odd()
    site = hold_out(Records(task.dataset(str(data))), HOLDOUT)
    trainer = Trainer(task=task, site=site, privacy=home.federation.privacy)
    try:
        trainer.train(trainer.initial(bytes(32)), Account().charge(home.federation.privacy), SEED)
    finally:
        (data / "do").write_text("")


@pytest.mark.claim("TASK-4")
def test_no_data_folder_that_holds_the_home_is_opened_to_a_task(home: Place, data: Path) -> None:
    with pytest.raises(DataHoldsKeys):
        OddTrainer(home.home.path.parent, [home.home.path])
    reach = Reach.of(data / "records.csv", (), [data / "home"], "cpu", described=True)
    assert reach.readable == (data / "records.csv",)


@pytest.mark.claim("DP-10")
def test_the_tasks_process_protects_patients_as_this_one_would(tmp_path: Path) -> None:
    """The same bits as in this process, in pieces of a few records; its answer says how many patients train."""
    data = tmp_path / "own.csv"
    rows = [f"{place % 7 * place % 13},{30 + place % 50},{'yes' if place % 3 else 'no'}" for place in range(120)]
    data.write_text("\n".join(["person,age,ill", *rows]) + "\n")
    table = draft.description_lines(
        b"columns:\n  age: {number: years, low: 0, high: 120, centre: 50, scale: 30}\nlabel:\n"
        b'  ill: {binary: ["no", "yes"], positive: ["yes"]}\nmodel: linear\nlearning_rate: 0.1\n'
        b"expected_batch: 4\npatient: person\n",
        "task.yaml",
    )
    members = [card.member for card in CARDS]
    raw = draft.peers_file("trial", members, table, ("privacy.unit=patient", "privacy.sample_rate=0.5", *SETTINGS[::2]))
    federation = Federation.parse(raw)
    private, task = federation.privacy, described_task(federation.task.table)
    here = Trainer(task=task, site=hold_out(Records(task.dataset(str(data))), HOLDOUT), privacy=private)
    with RemoteTrainer(Reach.of(data, (), (), "cpu", described=True)) as there:
        facts = there.prepare(TaskSource(federation, data), HOLDOUT)
        here.at_once = there.at_once = 5
        first = here.initial(bytes(32))
        updates = [one.train(first, Account().charge(private), SEED) for one in (here, there)]
    assert np.array_equal(*updates) and updates[0].any()
    assert facts.units == here.units == len(Units.of(here._site.train, "patient")) < facts.records - facts.held


@pytest.mark.claim("DP-14")
@pytest.mark.parametrize(("units", "layer"), [(3, "0"), (250, "2")], ids=["nothing is carried", "a matrix is carried"])
def test_layers_that_stay_here_ride_behind_the_model_to_the_tasks_process(
    tmp_path: Path, units: int, layer: str
) -> None:
    """The same bits as in this process, and what the sites share is what peers.yaml says, not what the task says."""
    data = tmp_path / "own.csv"
    rows = [f"{30 + place % 50},{place % 7},{place % 5},{'yes' if place % 3 else 'no'}" for place in range(120)]
    data.write_text("\n".join(["age,one,two,ill", *rows]) + "\n")
    columns = "".join(
        f"  {name}: {{number: years, low: 0, high: 120, centre: 50, scale: 30}}\n" for name in ("age", "one", "two")
    )
    table = draft.description_lines(
        f'columns:\n{columns}label:\n  ill: {{binary: ["no", "yes"], positive: ["yes"]}}\nmodel: {{mlp: {units}}}\n'
        "learning_rate: 0.1\nexpected_batch: 4\n".encode(),
        "task.yaml",
    )
    settings = (f"local.personal=[{layer}]", "privacy.sample_rate=0.5", "compression.density=0.5", *SETTINGS[::2])
    federation = Federation.parse(draft.peers_file("trial", [card.member for card in CARDS], table, settings))
    private, task = federation.privacy, described_task(federation.task.table)
    held = hold_out(Records(task.dataset(str(data))), HOLDOUT)
    here = Trainer(task=task, site=held, privacy=private, local=federation.local)
    with RemoteTrainer(Reach.of(data, (), (), "cpu", described=True)) as there:
        there.prepare(TaskSource(federation, data), HOLDOUT)
        assert (there.layout, there.personal) == (here.layout, here.personal)
        assert [name for name, _ in there.personal.tensors] == [f"{layer}.weight", f"{layer}.bias"]
        firsts = [np.concatenate([one.initial(bytes(32)), one.first_personal(bytes(32))]) for one in (here, there)]
        subspace = Subspace.of(here.layout, 0.5, *2 * [here.initial(bytes(32))])
        found = []
        for one in (here, there):
            update = one.train(firsts[0], Account().charge(private), SEED)
            along = one.train(firsts[0], Account().charge(private), SEED, 0, subspace)
            found.append((update, along, one.evaluate(firsts[0] + update)))
    assert np.array_equal(firsts[0], firsts[1])
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    assert found[0][0].any() and len(found[0][1]) == subspace.length + here.personal.parameters
    assert bool(subspace.carriers.size) is (units == 250)
