"""One site as a process that uses p2pfl from Python, tells every event as a line of JSON, and dies where it is told to.

    python -m tests.end_to_end.site '{"peers": …, "home": …, "key": …, "do": [{"sum": [1, 2]}, {"train": 3}], …}'

`die` names the moment of its own kill -9: {"event": k} at the k-th event that it tells, {"disk": k} before the k-th
step that it takes on the disk, between a write and its fsync included; {"at": ["rename", "state/pass", k]} before the
k-th such step on such a path ("put" and "flush" of an item in the journal: before it is written, and when it is written
and not yet durable); {"told": {"event": "phase", "phase": "mask"}} at the first event of which that is so;
{"heard": ["Reveal", k]} before it takes the first such letter of round k: its own of the phase before have come.
`full` fills its disk from the first step on such a path on. The trainer is a stub whose updates are kept in the site's
folder, so that a test can add them up; `gate` is the pass before which it waits for the test, and the order `hold`
waits for it between two others. Each event says when it was told (`told_s`), on the clock that all processes share. ε
is a stand-in that grows with every pass, so that no process needs torch. `nominates` are bytes (hex) that a liar's
proposals hold in place of its positions; `lie` names what it makes of its letters (undefended.py). `offers` tells each
update that a training offers. `signal` is sent in place of SIGKILL: a process that stops itself is one that sleeps. At
its end it says what its inner loops ran on.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfl.errors import P2PFLError
from p2pfl.errors.round import SumMissed
from p2pfl.home import home as homes
from p2pfl.home.keyslots import KeyFile
from p2pfl.keys import Secret, digest
from p2pfl.node.progress import Progress, facts_of
from p2pfl.node.question_file import statistic_of
from p2pfl.peer import Peer
from p2pfl.peer.epoch import sums_run, training_run
from p2pfl.sharing import events as e
from p2pfl.sharing import kernel
from p2pfl.sharing.run import Run
from p2pfl.training import update
from p2pfl.training.measures.classification import Binary
from p2pfl.training.measures.joint import Joint
from p2pfl.training.measures.measure import Figure
from p2pfl.training.measures.scores import BINS
from p2pfl.training.privacy import account as privacy
from p2pfl.training.privacy.account import Charge

GATE = "gate"


def die(number: int = signal.SIGKILL) -> None:
    """As kill -9 does it: at once, with nothing flushed."""
    os.kill(os.getpid(), number)


def tell(facts: dict[str, Any]) -> None:
    """One line of stderr, written at once: several threads tell."""
    sys.stderr.write(json.dumps(facts, default=str) + "\n")
    sys.stderr.flush()


class Told:
    """The observer: one line of JSON for each event on stderr."""

    def __init__(self, plan: dict[str, Any]) -> None:
        moment = plan.get("die", {})
        self._left, self._at = moment.get("event", 0), moment.get("told")
        self._signal = signal.Signals[plan.get("signal", "SIGKILL")]

    def __call__(self, event: Progress) -> None:
        facts = facts_of(event)
        if (error := facts.pop("error", None)) is not None:
            facts |= {"code": error.code, "text": error.render()}
        tell({"event": event.kind, **facts, "told_s": time.monotonic()})
        self._left -= 1
        if self._left == 0:
            die(self._signal)
        if self._at is not None and self._at.items() <= {"event": event.kind, **facts}.items():
            self._at = None
            die(self._signal)


class Fault:
    """The hook of the home's disk: dies, or runs out of room, where the plan says."""

    def __init__(self, plan: dict[str, Any]) -> None:
        moment = plan.get("die", {})
        self._step, self._path, self._left = moment.get("at", ["*", "*", moment.get("disk", 0)])
        self._signal = signal.Signals[plan.get("signal", "SIGKILL")]
        self._full, self._filled = plan.get("full"), False

    def __call__(self, step: str, path: Path) -> None:
        place = f"{path.parent.name}/{path.name}"
        if fnmatch(step, self._step) and fnmatch(place, self._path):
            self._left -= 1
            if self._left == 0:
                tell({"event": "dies", "step": step, "path": place})
                die(self._signal)
        self._filled = self._filled or (self._full is not None and fnmatch(place, self._full))
        if self._filled and step == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class PassStopped(Exception):
    """What a trainer raises in mid-pass when it is told to stop."""


class StubTrainer:
    """Updates that follow from their seeds, each kept beside the model that it was made from, before it leaves.

    Of layers that stay here it keeps what each pass started from and by how much it moved them, by its charge; once
    more where the pass is made again.
    """

    def __init__(
        self,
        folder: Path,
        parameters: int,
        index: int,
        *,
        endless: bool,
        gate: int = 0,
        records: bytes = b"",
        personal: int = 0,
    ) -> None:
        self._gate, self._records = gate, records
        self._stopped, self._endless = threading.Event(), endless
        self.layout, self.frozen = update.TensorLayout((("w", (parameters,)),)), bytes(32)
        self.personal = update.TensorLayout((("head", (personal,)),) if personal else ())
        self._folder, self._own, self._index = folder / "updates", folder / "own", index
        for place in (self._folder, self._own):
            place.mkdir(exist_ok=True)

    @property
    def parameters(self) -> int:
        return self.layout.parameters

    @property
    def stopping(self) -> bool:
        return self._stopped.is_set()

    @stopping.setter
    def stopping(self, wanted: bool) -> None:
        if wanted:
            self._stopped.set()

    def initial(self, seed: bytes) -> update.FlatVector:
        return np.zeros(self.parameters, np.float32)

    def first_personal(self, seed: bytes) -> update.FlatVector:
        return np.full(self.personal.parameters, self._index, np.float32)

    def inputs(self, model: update.FlatVector, rounds_before: int) -> bytes:
        return digest("stub", self._records, model.tobytes())

    def train(
        self, model: update.FlatVector, charge: Charge, seed: Secret, rounds_before: int, subspace: object = None
    ) -> update.FlatVector:
        charge.use(charge.mechanism)
        if charge.number == self._gate:
            (self._folder.parent / GATE).read_bytes()  # a pipe: until the test opens and closes it
        if self._endless:
            self._stopped.wait()
            raise PassStopped
        drawn = np.random.default_rng(int.from_bytes(seed.reveal(), "big"))
        made = drawn.uniform(-0.01, 0.01, model.size).astype(np.float32)
        shared, own = np.split(model, [self.parameters])
        np.savez(self._folder / f"{charge.number:04d}.npz", before=shared, update=made[: self.parameters])
        if own.size:
            times = len(list(self._own.glob(f"{charge.number:04d}-*")))
            np.savez(self._own / f"{charge.number:04d}-{times}.npz", before=own, moved=made[self.parameters :])
        return made

    @property
    def counts(self) -> int:
        return Binary.size

    def evaluate(self, model: update.FlatVector) -> NDArray[np.int64]:
        counts = np.zeros((2, BINS), np.int64)
        counts[0, 10], counts[1, 100 - self._index] = 7, 5
        return counts.reshape(-1)

    def figures(self, total: NDArray[np.int64]) -> Mapping[str, Figure]:
        return Joint([Binary()], "stub").figures(total)


def values_of(order: dict[str, Any]) -> Any:
    """The vector of a sum: integers or floats as numpy, decimals as text."""
    held = (order["sum"] if "sum" in order else order["mean"]) * order.get("times", 1)
    if order.get("decimals") is not None:
        return [Decimal(one) for one in held]
    if order.get("torch"):
        import torch

        return torch.tensor(held)
    return np.array(held)


def die_hearing(kind: str, number: int, by: int) -> None:
    """Before the first such letter of that round is taken: whatever it answers has left this process for good."""
    handle, left = Run.handle, [True]

    def handed(run: Run, event: e.Event) -> list[e.Effect]:
        if left and isinstance(event, e.Received):
            letter = event.letter
            if (type(letter.message).__name__, letter.envelope.round) == (kind, number):
                left.clear()
                die(by)
        return handle(run, event)

    Run.handle = handed  # type: ignore[method-assign]


def nominate(support: bytes) -> None:
    """This site's trainings nominate these bytes, whatever they are."""
    from p2pfl.node.runs.training import TrainingRun

    plain = TrainingRun.propose
    TrainingRun.propose = lambda *of: replace(plain(*of), support=support)  # type: ignore[method-assign]


def tell_offers() -> None:
    """Each update that this site's trainings offer is told, by its round and the number of its charge."""
    from p2pfl.node.runs.training import TrainingRun

    plain = TrainingRun.propose

    def told(run: TrainingRun, number: int, base: int) -> Any:
        offer = plain(run, number, base)
        if offer.configuration["purpose"] == "training":
            tell({"event": "offered", "round": number, "charge": run.account.passes})
        return offer

    TrainingRun.propose = told  # type: ignore[method-assign]


async def work(plan: dict[str, Any]) -> list[Any]:
    """All orders, one after another; what each gave."""
    if "nominates" in plan:
        nominate(bytes.fromhex(plan["nominates"]))
    if "lie" in plan:
        from tests.end_to_end import undefended  # loads pytest, which the honest need not wait for

        undefended.PLANS[plan["lie"]]()
    if heard := plan.get("die", {}).get("heard"):
        die_hearing(*heard, signal.Signals[plan.get("signal", "SIGKILL")])
    if plan.get("offers"):
        tell_offers()
    observer = Told(plan)
    given: list[Any] = []
    async with Peer.join(
        plan["peers"],
        home=plan["home"],
        unlock=[KeyFile(Path(plan["key"]))],
        observer=observer,
        listen=plan.get("listen"),
        wait_s=plan.get("wait"),
        linger_s=plan.get("linger", 60.0),
        agreement=plan.get("agreement"),
    ) as peer:
        sums = 0
        for order in plan["do"]:
            if "hold" in order:
                await asyncio.to_thread((Path(plan["folder"]) / GATE).read_bytes)
                # The pipe is closed: who opens it from now on opens it for the next wait.
                tell({"event": "let_through"})
                continue
            sums += "train" not in order
            if plan.get("again") and _done(peer, order, sums):
                continue  # final before this process began
            try:
                given.append(await _one(peer, plan, order))
            except P2PFLError as error:  # told before this site has served those that lack its last round
                tell({"event": "failed", "order": order, "code": error.code})
                raise
            tell({"event": "given", "order": order, "given": given[-1]})
    return given


def _done(peer: Peer, order: dict[str, Any], sums: int) -> bool:
    if "train" in order:
        return peer.logs.count(training_run(peer.federation)) > peer.federation.rounds
    return peer.logs.count(sums_run(peer.federation)) >= sums


async def _one(peer: Peer, plan: dict[str, Any], order: dict[str, Any]) -> Any:
    options = {key: order[key] for key in ("limit", "decimals", "name", "patience_s", "shows_own") if key in order}
    if "sum" in order:
        try:
            result = await peer.sum(values_of(order), **options)
        except SumMissed as error:
            return {"missed": error.code}
        kind = str(getattr(result.total, "dtype", "Decimal"))
        told = [str(one) for one in (sorted(set(result.total)) if "brief" in order else result.total)]
        return {"total": told, "kind": kind, "survivors": result.survivors, "round": result.round}
    if "ask" in order:
        statistic = statistic_of(order["ask"], peer.federation, "the order")
        answer = await peer.ask(statistic, Path(plan["folder"]) / "records.csv", **options)
        return {"result": answer.result.as_json(), "survivors": answer.survivors}
    if "mean" in order:
        mean = await peer.mean(values_of(order), weight=order.get("weight", 1), **options)
        return {"mean": [str(one) for one in mean]}
    trainer = StubTrainer(
        Path(plan["folder"]),
        order.get("parameters", 50),
        plan["index"],
        endless="endless" in order,
        gate=order.get("gate", 0),
        records=order.get("records", "").encode(),
        personal=order.get("personal", 0),
    )
    trained = await peer.train_with(trainer, rounds=order.get("until"))
    return {"rounds": trained.rounds, "epsilon": trained.epsilon, "model": [float(one) for one in trained.vector]}


def _stand_in_epsilon(history: privacy.History, delta: float) -> float:
    return 0.01 * sum(one.steps for one in history)


def main() -> int:
    """Do as the plan says; an error is told as the command tells it."""
    plan = json.loads(sys.argv[1])
    privacy._epsilon = _stand_in_epsilon  # type: ignore[assignment]
    if "full" in plan or "disk" in plan.get("die", {}) or "at" in plan.get("die", {}):
        homes.Home.open = functools.partial(homes.Home.open, fault=Fault(plan))  # type: ignore[method-assign]
    try:
        given = asyncio.run(work(plan))
    except P2PFLError as error:
        print(error.render(), file=sys.stderr, flush=True)
        print(json.dumps({"error": error.as_json()}), flush=True)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    print(json.dumps({"given": given, "loops": kernel.in_use()}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
