"""`p2pfl demo`: real peers on this machine, real hospitals' records, the whole cycle, and a table of what came of it.

Each peer is a process of its own, started as a person would start it, with its own home, key, port and file; between
them there is TLS over 127.0.0.1 and nothing else. This process deals the records, starts the peers and reads what they
say; only here, where all records come from one package, can it also tell what each site would have reached alone.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.demo.kill import Death, Dying
from p2pfl.cli.demo.outcome import demo_facts, demo_text
from p2pfl.cli.demo.peers import Children
from p2pfl.cli.interrupts import INTERRUPTS
from p2pfl.cli.monitor import plain_option
from p2pfl.cli.options import json_option, set_option
from p2pfl.cli.peers.create import task_lines
from p2pfl.cli.ports import free_ports
from p2pfl.errors import EXIT_INTEGRITY
from p2pfl.errors.people import DemoHome, DemoPeerFailed, DemoPeers, NotWritten, WrongUse
from p2pfl.federation import Federation, draft
from p2pfl.federation.cards import Card
from p2pfl.home import Home
from p2pfl.home.keyslots import KeyFile
from p2pfl.roster import Address

if TYPE_CHECKING:
    from p2pfl.training.tasks.heart_records import SiteFiles

LEAST: Final = 3
MOST: Final = 20
ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}  # many peers share this machine's cores


@click.command()
@click.option(
    "--peers",
    "count",
    type=int,
    default=5,
    show_default=True,
    help=f"{LEAST} to {MOST}; 4 are the hospitals as they are.",
)
@click.option("--rounds", type=click.IntRange(1, 1000), help="Rounds of training.  [default: as peers create]")
@set_option
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the sites' homes, keys and files here.  [default: a temporary folder]",
)
@click.option(
    "--kill",
    type=Death.parse,
    metavar="SITE@ROUND",
    help="Kill that site's process as it trains for that round: the others go on, and it is started again.",
)
@click.option("--stays-away", is_flag=True, help="With --kill: that site is not started again.")
@plain_option
@json_option
def demo(
    count: int,
    rounds: int | None,
    overrides: tuple[str, ...],
    home: Path | None,
    kill: tuple[str, int] | None,
    stays_away: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Real processes on this machine train one model on the records of four real hospitals."""
    begun = time.monotonic()
    if stays_away and kill is None:
        raise WrongUse(evidence="--stays-away is for --kill, which is not given", verb=" demo")
    if not LEAST <= count <= MOST:
        raise DemoPeers(evidence=f"--peers {count}", least=LEAST, most=MOST, count=count)
    from p2pfl.training.tasks.heart_records import deal

    dealt = deal(count)
    with ExitStack() as held:
        place = _place(home) or _temporary(held)
        death = Death(*kill, returns=not stays_away) if kill is not None else None
        told = next(name for name in dealt.files if death is None or name != death.site)
        output.progress(f"{count} peers, {dealt.dataset}; {dealt.said}. What {told} says:")
        chosen = [*overrides, *([f"rounds={rounds}"] if rounds else [])]
        peers_file = prepare(place, dealt, chosen)
        try:
            results, killed = _run(place, peers_file, list(dealt.files), told, death, plain)
        except DemoPeerFailed as error:  # the peer's own status says why: 3, 4 and 5 are not just "failed"
            output.failure(error, as_json)
            status = int(error.fields["status"])
            raise click.exceptions.Exit(status if 0 < status < 6 else error.exit_status) from None
        output.progress("each site alone, on its own records and without privacy, for comparison")
        alone = sites_alone(place, peers_file, dealt)
        took_s = time.monotonic() - begun
        facts = demo_facts(peers_file, dealt.dataset, dealt.records, results, alone, took_s, killed)
        output.result(demo_text(facts, dealt.said, home), facts, as_json)
        if not (facts["ledger"]["verified"] and facts["ledger"]["identical_roots"]):
            raise click.exceptions.Exit(EXIT_INTEGRITY)


def _temporary(held: ExitStack) -> Path:
    """A folder that is gone at the end, with the keys in it; also when a second signal ends the process at once."""
    place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="p2pfl-demo-")))
    held.enter_context(INTERRUPTS.leaving_does(partial(shutil.rmtree, place, ignore_errors=True)))
    return place


def _place(home: Path | None) -> Path | None:
    """Make the folder that was named, which must be empty; None when none was named."""
    if home is None:
        return None
    if home.exists() and any(home.iterdir()):
        raise DemoHome(evidence=f"{len(list(home.iterdir()))} files lie there", path=home)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise NotWritten(evidence=error.strerror or type(error).__name__, path=home) from None
    return home


def prepare(place: Path, dealt: SiteFiles, overrides: list[str]) -> Path:
    """Each site's folder (home, key, records) and one peers.yaml; returns the latter."""
    cards = []
    for (name, raw), port in zip(dealt.files.items(), free_ports(len(dealt.files)), strict=True):
        folder = place / name
        folder.mkdir(mode=0o700)
        (folder / "records.csv").write_bytes(raw)
        with Home.create(folder / "home", name, [KeyFile(folder / "site.key")]) as made:
            card = Card.sign(made.identity(), name, [Address("127.0.0.1", port)])
            made.publish_card(card.to_bytes())
        cards.append(card.member)
    path = place / "peers.yaml"
    path.write_bytes(draft.peers_file("demo", cards, task_lines(None), overrides))
    return path


def _run(
    place: Path, peers_file: Path, names: list[str], told: str, death: Death | None, plain: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, object] | None]:
    """Run all peers to their end; what each said as JSON, and what was said of a death. `told`: whose lines are shown.

    Raises WrongUse, DemoPeerFailed.
    """
    rounds = Federation.load(peers_file).rounds
    if death is not None:
        death.check(names, rounds)

    def tell(name: str, line: str) -> None:
        if name == told:
            output.progress(f"  {line}")

    def start(name: str) -> None:
        folder = place / name
        arguments = ["join", "--peers", peers_file, "--home", folder / "home", "--data", folder / "records.csv"]
        children.start(name, [*map(str, arguments), "--json", "--end-with-stdin"], ENVIRONMENT)

    def happened(name: str, event: Mapping[str, Any]) -> None:
        if view is not None:
            view.take(name, event)
        dying.heed(name, event)

    with ExitStack() as held:
        view = None
        if not plain and sys.stderr.isatty():
            from p2pfl.cli.live.demo import DemoView
            from p2pfl.cli.live.screen import shown

            view = DemoView(names, rounds)
            held.enter_context(shown(view, plain=plain))
        children = held.enter_context(Children(tell, happened))
        dying = Dying(death, children.kill, start)
        for name in names:
            start(name)
        results = children.wait()
        return {name: results[name] for name in names if name in results}, dying.facts()


def sites_alone(place: Path, peers_file: Path, dealt: SiteFiles) -> Mapping[str, float]:
    """AUC of each site's own plain model on the union of all held-out records, on which the federation is judged too.

    No site could compute it, since none has the others' records.
    """
    import numpy as np

    from p2pfl.training.baseline import site_alone
    from p2pfl.training.lean import without_compiler
    from p2pfl.training.measures.joint import Joint
    from p2pfl.training.models import build, count_of, device_of
    from p2pfl.training.records.records import Records, hold_out
    from p2pfl.training.registry import load_task
    from p2pfl.training.update import write_vector

    without_compiler()  # which the optimiser would load
    task = load_task(Federation.load(peers_file).task)
    measures, built, device = Joint(task.measures(), task.name), build(task), device_of("cpu")
    sites = {}
    for name in dealt.files:
        with Home.open(place / name / "home", write=False) as home:
            records = Records(task.dataset(str(place / name / "records.csv")), name)
            sites[name] = hold_out(records, home.holdout_key())
    found = {}
    for name, site in sites.items():
        write_vector(built.model, site_alone(task, site.train, os.urandom))
        total = np.sum([count_of(task, measures, built.model, one.held_out, device) for one in sites.values()], axis=0)
        found[name] = next(iter(measures.figures(total).values())).value
    return found
