"""What each of two processes of one site does in the tests of training on several: `python -m … SCENE FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from p2pfl.codec import Pieces
from p2pfl.errors import P2PFLError
from p2pfl.errors.from_python import RanksDiffer
from p2pfl.federation import Federation
from p2pfl.federation.federation import Privacy
from p2pfl.federation.personal_layers import PERSONAL
from p2pfl.keys import Secret
from p2pfl.node.runs.passes import PENDING, read_begun
from p2pfl.node.withdrawals import withdraw
from p2pfl.training.compression.subspace import Subspace
from p2pfl.training.distributed import FollowingTrainer, LeadingTrainer, follow
from p2pfl.training.local import PassStopped, Trainer
from p2pfl.training.model.personal import PersonalState
from p2pfl.training.privacy.account import Account
from p2pfl.training.ranks import END, RECORDS, Ranks, ranks
from p2pfl.training.records.records import Arrays, PatientArrays, Records, SiteRecords, hold_out
from p2pfl.training.registry import described_task
from p2pfl.training.site_optimiser import SiteOptimiser
from p2pfl.training.tasks.table import TableTask
from tests.federation.sample import peers_yaml
from tests.node.runs.homes import Killed, beside, charges, finished, places, summed
from tests.training.settings import Small, arrays

SEED = Secret(bytes(range(32)))
SETTINGS = {  # name: (noise, sample rate, steps)
    "together": (1.0, 0.9, 4),  # of 300 records: more than one piece of 64 at each rank
    "few": (1.0, 0.004, 12),  # one record a step, and empty batches: a rank mostly has no share
    "lowrank": (1.0, 0.3, 3),
    "patients": (1.0, 0.4, 3),  # of some five records each
    "personal": (1.0, 0.9, 3),  # the last layer stays here
    "carried": (1.0, 0.3, 3),  # … and the others move in a subspace
    "noise": (1.0, 1e-12, 3),  # nothing but noise
}
DENSITY = 0.2
STAYS = {"personal": SiteOptimiser(personal=("2",)), "carried": SiteOptimiser(personal=("4",))}
HOME = (
    "rounds=3",
    "local.personal=[bias]",
    "privacy.sample_rate=0.6",
    "privacy.steps_per_round=3",
    "privacy.max_epsilon=90.0",
)
FAULTS = ("privacy.noise_multiplier=4.0", "privacy.sample_rate=0.9", "privacy.steps_per_round=2")


def privacy(name: str) -> Privacy:
    noise, rate, steps = SETTINGS[name]
    return Privacy("patient" if name == "patients" else "record", noise, 1.0, rate, steps, 1e-5, float("inf"))


def site(name: str = "records") -> SiteRecords:
    whole = Records(owned(arrays(340, (4,), name)))
    return SiteRecords(whole.at(np.arange(40, 340)), whole.at(np.arange(40)))


def owned(held: Arrays) -> PatientArrays:
    """The records with patients, whom only one of the passes asks for."""
    return PatientArrays(held.x, held.y, held.identities, [b"%d" % (place * place % 61) for place in range(len(held))])


def update(made: Trainer, settings: Privacy, name: str = "") -> np.ndarray[Any, np.dtype[np.float32]]:
    first = made.initial(bytes(range(32)))
    subspace = Subspace.of(made.layout, DENSITY, first, first) if name in ("lowrank", "carried") else None
    start = np.concatenate([first, made.first_personal(bytes(range(32)))])
    return made.train(start, Account().charge(settings), SEED, 0, subspace)


def task_of(name: str) -> Small:
    return Wide() if name in ("lowrank", "carried") else Small()


def lead(of: Ranks, scene: str, folder: Path) -> None:
    """Rank 0: each pass twice with two ranks, and once alone. Of faults: one has other records, then it dies."""
    if scene == "faults":
        faults(of, folder)
    if scene == "home":
        found = {name: at_home(ranks, folder / name) for name, ranks in (("two", of), ("one", None))}
        return np.savez(
            folder / "home.npz", **{f"{name}_{key}": one for name, facts in found.items() for key, one in facts.items()}
        )
    for name in SETTINGS:
        settings, task, local = privacy(name), task_of(name), STAYS.get(name)
        leading = LeadingTrainer(of, task=task, site=site(), privacy=settings, local=local)
        leading.stopping = True
        with suppress(PassStopped):  # given up at every rank
            update(leading, settings)
            raise AssertionError("it was to stop")
        leading.stopping = False
        found = [update(leading, settings, name), update(leading, settings, name)]
        alone = Trainer(task=task, site=site(), privacy=settings, local=local)
        named = [one.inputs(leading.initial(bytes(32))) for one in (leading, alone)]
        np.savez(folder / f"{name}.npz", one=found[0], two=found[1], alone=update(alone, settings, name), named=named)


def faults(of: Ranks, folder: Path) -> None:
    """The pass of a real home is charged, rank 1 dies in it, and one process takes it up: it charges one of its own."""
    place, _ = places(folder, *FAULTS)
    private = place.federation.privacy
    with suppress(RanksDiffer):
        LeadingTrainer(of, task=Small(), site=site(), privacy=private)
        raise AssertionError("the records differ")
    leading = LeadingTrainer(of, task=Small(), site=site(), privacy=private)
    run = place.started(leading)  # type: ignore[arg-type]
    try:
        run.propose(1, 0)
    finally:
        begun = read_begun(place.home)
        assert begun is not None
        told = {"charged": len(charges(run)), "repeated": begun.inputs == run.maker.inputs(run.model, 0)}
        alone = place.started(Trainer(task=Small(), site=site(), privacy=private))  # type: ignore[arg-type]
        alone.propose(1, 0)
        (folder / "told.json").write_text(json.dumps({**told, "alone": len(charges(alone))}))


def at_home(of: Ranks | None, folder: Path) -> dict[str, Any]:
    """Two rounds of a real home whose bias stays there, on these ranks, or on this process alone.

    Behind the first round a record is withdrawn. The second pass dies behind its layers, and is made again.
    """
    place, _ = places(folder, *HOME[1:])
    federation = place.federation
    whole = Records(patients(federation))

    def trainer() -> Any:
        task = described_task(federation.task.table)
        given = {"task": task, "privacy": federation.privacy, "local": federation.local}
        made = {"site": hold_out(whole, Secret(bytes(32))), **given}
        return Trainer(**made) if of is None else LeadingTrainer(of, **made)

    run = place.started(trainer())
    finished(place, run, 1, *summed(run, 1))
    withdraw(beside(place), list(whole.at(np.arange(1)).names()), 1_700_000_000)
    replace = place.home.replace

    def dies(item: str, data: bytes | Pieces) -> None:
        if item == PENDING:
            raise Killed
        replace(item, data)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place.home, "replace", dies)
        run.propose(2, 1)
    run = place.started(trainer())
    finished(place, run, 2, *summed(run, 2))
    held = PersonalState.from_file(place.home.read(PERSONAL) or b"")
    left = run.trainer._site  # type: ignore[attr-defined]
    return {
        "model": run.model,
        "layers": np.concatenate([held.before, held.after]),
        "charges": len(charges(run)),
        "left": len(left.train) + len(left.held_out),
    }


def patients(federation: Federation) -> Any:
    """Eighty records of the table that those sites agreed on."""
    task = described_task(federation.task.table)
    assert isinstance(task, TableTask)
    rows = [f"{30 + at % 50},{('male', 'female')[at % 2]},{('no', 'yes')[at * at % 3]}" for at in range(80)]
    return task.read("\n".join(["age,sex,ill", *rows]).encode(), "records.csv")


def help_(of: Ranks, scene: str) -> None:
    """Rank 1, from what rank 0 says."""
    if scene == "home":
        federation = Federation.parse(peers_yaml(*HOME))
        return follow(of, peers=federation, data=patients(federation))
    what, _ = of.hear(RECORDS, END)
    for name in SETTINGS if scene == "passes" else ["differ", "dies"]:
        assert what == RECORDS
        rows = [of.share_array(np.zeros(of.hear(RECORDS)[1], np.int64)) for _ in range(2)]
        held = arrays(340, (4,), "others" if name == "differ" else "records")
        whole = Records(Dying(held.x, held.y, held.identities) if name == "dies" else owned(held))
        shared = SiteRecords(*(whole.at(one) for one in rows))
        task, local = task_of(name), STAYS.get(name)
        settings = privacy(name) if name in SETTINGS else Federation.parse(peers_yaml(*FAULTS)).privacy
        try:
            given = {"task": task, "site": shared, "privacy": settings, "local": local}
            what = FollowingTrainer(of, density=DENSITY, **given).follow()
        except RanksDiffer:
            what, _ = of.hear(RECORDS, END)
    assert what == END


class Wide(Small):
    """One matrix that is worth carriers."""

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))


class Dying(Arrays):
    """Records of which the first large batch ends the process."""

    def batch(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Any, Any]:
        """As ever, of few."""
        if len(rows) > 10:
            os._exit(9)
        return self.x[rows], self.y[rows]


def gloo_threads() -> int:
    """Of this process, as the kernel names them; 0 where it cannot be asked."""
    return sum("gloo" in file.read_text() for file in Path("/proc/self/task").glob("*/comm"))


def main() -> int:
    scene, folder = sys.argv[1], Path(sys.argv[2])
    try:
        with ranks() as of:
            lead(of, scene, folder) if of.leads else help_(of, scene)
    except P2PFLError as error:
        print(error.render(), flush=True)
        return error.exit_status
    print(f"gloo's threads: {gloo_threads()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
