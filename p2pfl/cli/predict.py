"""`p2pfl predict`: a model applied to new records, here and for this hospital only; a model's file needs no home."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pfl.cli import output
from p2pfl.cli.csv_text import csv_text, inert
from p2pfl.cli.model.held import model_of, own_layers
from p2pfl.cli.options import (
    PEERS,
    NamedFile,
    Unlock,
    columns_option,
    home_option,
    json_option,
    read_whole,
    reading,
    reserved,
    unlock_options,
    write_new,
)
from p2pfl.cli.records import check_readable
from p2pfl.cli.tasks import device_option, reads_option, secret_places
from p2pfl.errors.models import PredictionsAreNoMasks, PredictionsNotFinite, TaskNotDescribed, TaskNotNamed
from p2pfl.errors.people import NotWritten, WrongUse
from p2pfl.errors.training import DataUnreadable, MissingColumn, ModelDiverged
from p2pfl.federation import Federation
from p2pfl.federation.table_labels import BinaryLabel
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.files import is_file
from p2pfl.home import notes
from p2pfl.training.records.column_map import MapFile, map_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from p2pfl.training.model.card import ModelCard
    from p2pfl.training.model.file import ModelFile
    from p2pfl.training.process.remote_task import RemoteTask

OWN_ALONE: Final = 0o600  # the mode of files that say something of patients


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """A model that is about to be applied: what it is of, and the agreed probability from which it says yes.

    federation   whose peers.yaml says so; None where the model's own file does
    """

    model: ModelFile
    task: TaskChoice
    threshold: float | None
    federation: Federation | None = None

    @classmethod
    def of(cls, model: ModelFile, federation: Federation) -> ModelInUse:
        """What peers.yaml says of it."""
        return cls(model, federation.task, federation.model.threshold, federation)


@dataclass(frozen=True, slots=True)
class NewRecords:
    """What a model is applied to: the records, how they are read, and by what. `closed`: what no task may read."""

    data: Path
    columns: MapFile | None
    id_column: str | None
    task_file: Path | None
    device: str
    reads: tuple[Path, ...]
    closed: tuple[Path, ...]
    masks: Path | None = None  # the folder into which they are to be written


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="New records: a CSV, or a folder.")
@columns_option
@click.option("--id", "id_column", metavar="COLUMN", help="Call records by this column.  [default: by their number]")
@click.option(
    "--csv", "target", type=NamedFile(), metavar="FILE", help="Write what is said of each record to a CSV, too."
)
@click.option(
    "--masks",
    "masks_in",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Of volumes: write what is said of each voxel as a NIfTI mask, in the grid of the volume's own file.",
)
@click.option(
    "--model",
    "model_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An exported model, which says what it is of.  [default: the newest one in the home]",
)
@click.option(
    "--task",
    "task_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="This site's copy of the task's file, where the task is one.",
)
@click.option(
    "--peers",
    "peers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The peers file of the sites: what the model is of, where its file does not say.  [default: peers.yaml]",
)
@device_option
@reads_option
@home_option
@unlock_options
@json_option
def predict(
    *,
    data: Path,
    columns: Path | None,
    id_column: str | None,
    target: Path | None,
    masks_in: Path | None,
    model_file: Path | None,
    task_file: Path | None,
    device: str,
    reads: tuple[Path, ...],
    peers_file: Path | None,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """For each record, what the model says: a probability, one for each class, a number.

    With --model FILE a hospital that took no part applies it: no home and no peers.yaml is needed. Whether it says yes
    is printed only where the sites agreed on a threshold.
    """
    if model_file is None or peers_file is not None:
        federation = Federation.load(peers_file or PEERS)
        held = _read(model_file, home, unlock, peers_file or PEERS, federation.local.personal)
        applied_to = ModelInUse.of(held, federation)
    else:
        applied_to = _of_its_own(_read(model_file, home, unlock, None))
    if applied_to.task.sha256 is not None and task_file is None and applied_to.federation is None:
        raise TaskNotNamed(
            evidence=f"SHA-256 {applied_to.task.sha256.hex()[:16]}…",
            source=model_file,
            file=applied_to.task.file or "",
            cls=applied_to.task.cls or "",
        )
    if id_column is not None and applied_to.task.table is None:
        raise WrongUse(evidence="--id is a column of a table, and this task is not one", verb=" predict")
    if masks_in is not None and applied_to.task.table is not None:
        raise PredictionsAreNoMasks(evidence=f"its task is {applied_to.task.label}")
    check_readable(data)
    closed = tuple(secret_places(home, unlock.keys()))
    records = NewRecords(data, map_for(data, columns), id_column, task_file, device, reads, closed, masks_in)
    # Late: what is wrong with files, home and key is told before anything slow happens.
    output.loading_torch()
    is_ours = applied_to.task.table is not None and applied_to.federation is None
    with ExitStack() as open_files:  # what cannot be written is said before anything slow happens, too
        write = open_files.enter_context(reserved(target, OWN_ALONE)) if target is not None else None
        try:
            found, names = _by_a_table(applied_to, records) if is_ours else _in_a_process(applied_to, records)
        except ModelDiverged as error:  # which tells of a pass, and of what it costs
            raise PredictionsNotFinite(evidence=error.evidence, path=data) from None
        ids = _ids(data, id_column, len(found)) if id_column is not None else None
        told = _told(applied_to, records, found, _names(names, found.shape[1]), ids)
        if write is not None:
            write((csv_text(told.rows) + "\n").encode())
            told.facts["csv"] = str(target)
    output.result(output.aligned(told.rows, tuple(range(1, 1 + found.shape[1]))), told.facts, as_json)


def _read(
    model_file: Path | None, home: Path, unlock: Unlock, peers_file: Path | None, prefixes: Sequence[str] = ()
) -> ModelFile:
    """The model, from its file, or from the home with its own layers of those `prefixes`.

    Raises ModelFileBroken, CardUnfit, NoModel, NoOwnLayers.
    """
    from p2pfl.training.model.file import ModelFile, held_state, shown_model  # they bring numpy

    if model_file is not None:
        return ModelFile.read(read_whole(model_file), str(model_file))
    with reading(home, unlock, peers_file) as opened:
        model = shown_model(held_state(model_of(opened), str(home)), str(home))
        own = own_layers(opened, prefixes)
        notes.put(opened, "predict", int(time.time()), {"model": model.digest.hex()})  # the shared one, as of an export
        return model if own is None else model.with_layers(own)


def _of_its_own(model: ModelFile) -> ModelInUse:
    """What the model's file says that it is of; without a card, what the peers.yaml here says.

    Raises NoCard, TaskNotDescribed.
    """
    if model.card is None and is_file(PEERS):
        return ModelInUse.of(model, Federation.load(PEERS))
    card = model.expect_card()
    if card.task.table is None and card.task.sha256 is None:
        raise TaskNotDescribed(evidence="no --peers is given", source=model.source, task=card.facts["task"]["own"])
    output.progress(_introduced(card, model.source))
    return ModelInUse(model, card.task, card.threshold)


def _introduced(card: ModelCard, source: str) -> str:
    facts = card.facts
    private = facts["privacy"]
    spent = f"ε {float(private['epsilon']):.2f} at δ {private['delta']}" if private else "WITHOUT differential privacy"
    sites = len(facts["federation"]["sites"])
    what = card.task.table.summary if card.task.table is not None else card.task.label
    return f"{source}: {facts['federation']['name']}, {what}; {sites} sites, {spent}"


def _by_a_table(of: ModelInUse, records: NewRecords) -> tuple[NDArray[Any], Sequence[str]]:
    """What the model says of each record (N, K), and names of its numbers: a described table, no code of anybody's."""
    from p2pfl.training.models import build, predict
    from p2pfl.training.records.records import Records
    from p2pfl.training.registry import load_task

    task = load_task(of.task)
    vector = of.model.fitting(build(task).layout)
    read = Records(task.dataset(str(records.data), records.columns, labelled=False), str(records.data))
    return predict(task, vector, read, records.device).reshape(len(read), -1), task.prediction_names


def _in_a_process(of: ModelInUse, records: NewRecords) -> tuple[NDArray[Any], Sequence[str]]:
    """The same, by a task that may be a site's own code: in a process of its own, without the home's keys."""
    from p2pfl.simulate.training import federation_of
    from p2pfl.training.process.facts import Reach, TaskSource
    from p2pfl.training.process.remote_task import RemoteTask
    from p2pfl.training.registry import code_of

    code = code_of(of.task, records.task_file)
    agreed = of.federation or federation_of(("site-a", "site-b", "site-c"), ())  # the task's code is given beside it
    described = of.task.sha256 is None
    weights = (Path(code[1]),) if of.task.scans is not None and code[1] else ()
    reads = (*records.reads, *weights)
    reach = Reach.of(records.data, reads, records.closed, records.device, described=described)
    with RemoteTask(reach) as task:
        task.open(TaskSource(agreed, records.data, records.columns, *code, records.device, labelled=False))
        said = task.predict(of.model.fitting(task.layout_of_model()))
        if records.masks is not None:
            _write_masks(task, records.masks, of.task.label)
        return said


def _write_masks(task: RemoteTask, folder: Path, label: str) -> None:
    """FOLDER/NUMBER-NAME.nii.gz of each record. Raises PredictionsAreNoMasks, NotWritten, WontOverwrite."""
    if not task.writes_masks:
        raise PredictionsAreNoMasks(evidence=f"its task is {label}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)  # they are of patients
    except OSError as error:
        raise NotWritten(evidence=error.strerror or type(error).__name__, path=folder) from None
    for number, (name, mask) in enumerate(task.masks(), start=1):
        write_new(folder / f"{number:05}-{_stem(name)}.nii.gz", mask, OWN_ALONE)


def _stem(name: str) -> str:
    """What a file is called, of what the task's process says that it is: no way out of a folder."""
    plain = re.sub(r"[^\w.-]", "_", Path(name).name)
    return plain.removesuffix(".gz").removesuffix(".nii")


def _ids(data: Path, column: str, count: int) -> list[str]:
    """The cells of that column. Raises MissingColumn, DataUnreadable."""
    from p2pfl.training.records.columns import header_told, read_file, rows_of

    rows = rows_of(read_file(data), str(data))
    _, header = next(rows)
    names = [name.strip() for name in header]
    if column not in names:
        raise MissingColumn(evidence=header_told(names), path=data, column=f"column {column}")
    place = names.index(column)
    found = [cells[place].strip() for _, cells in rows]
    if len(found) != count:
        raise DataUnreadable(evidence=f"{count} records at first, {len(found)} now", path=data)
    return found


@dataclass(frozen=True, slots=True)
class SaidOfEach:
    """What is said of each record: a row each, behind the head; and the same as facts."""

    rows: list[list[str]]
    facts: dict[str, object]


def _told(
    applied_to: ModelInUse,
    records: NewRecords,
    found: NDArray[Any],
    names: list[str],
    ids: list[str] | None,
) -> SaidOfEach:
    label = applied_to.task.table.label if applied_to.task.table is not None else None
    facts: dict[str, object] = {"records": len(found), "model": applied_to.model.digest.hex(), "names": names}
    facts["predictions"] = [[round(float(value), 6) for value in said] for said in found]
    binary = isinstance(label, BinaryLabel) or names == ["probability"]
    head = [records.id_column or "record", *map(inert, names)]
    called = ids or [str(number) for number in range(1, len(found) + 1)]
    rows = [[one, *(f"{value:.4f}" for value in said)] for one, said in zip(called, found, strict=True)]
    if binary:
        facts["probabilities"] = [round(float(said[0]), 6) for said in found]
    if ids is not None:
        facts["ids"] = ids
    if applied_to.threshold is not None and found.shape[1] == 1:
        yes, no = (label.yes, label.no) if isinstance(label, BinaryLabel) else ("yes", "no")
        decided = [yes if said[0] >= applied_to.threshold else no for said in found]
        facts |= {"threshold": applied_to.threshold, "predicted": decided}
        head.append(f"predicted (from {applied_to.threshold:g})")
        rows = [[*row, inert(one)] for row, one in zip(rows, decided, strict=True)]
    if records.masks is not None:
        facts["masks"] = str(records.masks)
    return SaidOfEach([head, *rows], facts)


def _names(names: Sequence[str], columns: int) -> list[str]:
    """A name for each number that the model says of a record."""
    if len(names) == columns:
        return list(names)
    return ["prediction"] if columns == 1 else [f"prediction_{place + 1}" for place in range(columns)]
