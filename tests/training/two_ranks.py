"""What each of two processes of one site does in the tests of training on several: `python -m … SCENE FOLDER`."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from p2pfl.errors import P2PFLError
from p2pfl.errors.from_python import RanksDiffer
from p2pfl.federation import Federation
from p2pfl.federation.federation import Privacy
from p2pfl.keys import Secret
from p2pfl.node.runs.passes import read_begun
from p2pfl.training.distributed import FollowingTrainer, LeadingTrainer
from p2pfl.training.local import PassStopped, Trainer
from p2pfl.training.privacy import Account
from p2pfl.training.ranks import END, RECORDS, Ranks, ranks
from p2pfl.training.records import Arrays, PatientArrays, Records, SiteRecords
from p2pfl.training.subspace import Subspace
from tests.federation.sample import peers_yaml
from tests.node.runs.homes import charges, places
from tests.training.settings import Small, arrays

SEED = Secret(bytes(range(32)))
SETTINGS = {  # name: (noise, sample rate, steps)
    "together": (1.0, 0.9, 4),  # of 300 records: more than one piece of 64 at each rank
    "few": (1.0, 0.004, 12),  # one record a step, and empty batches: a rank mostly has no share
    "lowrank": (1.0, 0.3, 3),
    "patients": (1.0, 0.4, 3),  # of some five records each
    "noise": (1.0, 1e-12, 3),  # nothing but noise
}
DENSITY = 0.2
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
    subspace = Subspace.of(made.layout, DENSITY, first, first) if name == "lowrank" else None
    return made.train(first, Account().charge(settings), SEED, 0, subspace)


def lead(of: Ranks, scene: str, folder: Path) -> None:
    """Rank 0: each pass twice with two ranks, and once alone. Of faults: one has other records, then it dies."""
    if scene == "faults":
        faults(of, folder)
    for name in SETTINGS:
        settings, task = privacy(name), Wide() if name == "lowrank" else Small()
        leading = LeadingTrainer(of, task=task, site=site(), privacy=settings)
        leading.stopping = True
        with suppress(PassStopped):  # given up at every rank
            update(leading, settings)
            raise AssertionError("it was to stop")
        leading.stopping = False
        found = [update(leading, settings, name), update(leading, settings, name)]
        alone = Trainer(task=task, site=site(), privacy=settings)
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


def help_(of: Ranks, scene: str) -> None:
    """Rank 1, from what rank 0 says."""
    what, _ = of.hear(RECORDS, END)
    for name in SETTINGS if scene == "passes" else ["differ", "dies"]:
        assert what == RECORDS
        rows = [of.share_array(np.zeros(of.hear(RECORDS)[1], np.int64)) for _ in range(2)]
        held = arrays(340, (4,), "others" if name == "differ" else "records")
        whole = Records(Dying(held.x, held.y, held.identities) if name == "dies" else owned(held))
        shared = SiteRecords(*(whole.at(one) for one in rows))
        task = Wide() if name == "lowrank" else Small()
        settings = privacy(name) if name in SETTINGS else Federation.parse(peers_yaml(*FAULTS)).privacy
        try:
            what = FollowingTrainer(of, density=DENSITY, task=task, site=shared, privacy=settings).follow()
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
