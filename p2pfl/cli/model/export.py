"""`p2pfl model export`: the model out of the sealed home, as safetensors that any tool reads, and its card."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pfl.cli import output
from p2pfl.cli.model.held import model_of, own_layers
from p2pfl.cli.options import (
    NamedFile,
    Unlock,
    home_option,
    json_option,
    new_file_option,
    peers_option,
    reading,
    reserved,
    unlock_options,
)
from p2pfl.cli.wording import NO_PRIVACY
from p2pfl.errors.models import NotExportable
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.home import Home, notes

if TYPE_CHECKING:
    from p2pfl.training.model.file import ModelFile
    from p2pfl.training.model.personal import PersonalState


@click.command()
@new_file_option
@click.option(
    "--onnx",
    "onnx_target",
    type=NamedFile(),
    metavar="FILE",
    help="Write a described table's model as ONNX, too: columns go in as they are measured. Needs the extra [onnx].",
)
@click.option(
    "--personal",
    is_flag=True,
    help="Write this site's own layers, too, where local.personal keeps some at home: a whole model, of this site.",
)
@click.option("--licence", metavar="NAME", help="Licence of the model, as CC-BY-4.0, where peers.yaml names none.")
@peers_option
@home_option
@unlock_options
@json_option
def export(
    *,
    target: Path,
    onnx_target: Path | None,
    personal: bool,
    licence: str | None,
    peers_file: Path,
    home: Path,
    unlock: Unlock,
    as_json: bool,
) -> None:
    """Write the newest model: named float32 tensors, no code; and a model card, in the file and beside it.

    The card, in a file of the same name that ends in .md, is the same at every site: columns and codes, sites and
    rounds, how good, how private, where to check it. The file is not encrypted. What it tells of any one record is
    bounded by the ε that the card names; where the sites agreed on `privacy: none`, by nothing, and the card says so.
    """
    _check_apart(target, onnx_target)
    federation = Federation.load(peers_file)
    if onnx_target is not None and federation.task.table is None:
        evidence = f"{federation.task.label}: code that is not p2pfl's own does not run beside an open home"
        raise NotExportable(evidence=evidence)
    # Loaded late: they bring numpy, and what is wrong with files is told before.
    from p2pfl.cli.model.describe import page
    from p2pfl.cli.model.facts import card_of
    from p2pfl.training.model.file import held_state, model_file, shown_model

    with reading(home, unlock, peers_file) as opened:
        state = held_state(model_of(opened), str(home))
        card = card_of(opened, federation, state, licence)
        own = _own(opened, federation) if personal else None
        exported: notes.Options = {"model": str(card.facts["model"]["digest"]), "onnx": onnx_target is not None}
        notes.put(opened, "model export", int(time.time()), exported)
    model = shown_model(state, str(home), card)
    model = model if own is None else model.with_layers(own)
    files = {target: model_file(model.layout, model.vector, card), _card_of(target): page(card).encode()}
    checked: bool | None = None
    if onnx_target is not None:
        files[onnx_target], checked = _onnx(federation, model)
    _write(files)
    told = f"{target}: {output.amount(len(files[target]))}, SHA-256 {_sha256(files[target])}"
    facts: dict[str, object] = {
        "path": str(target),
        "bytes": len(files[target]),
        "sha256": _sha256(files[target]),
        "card": str(_card_of(target)),
        "model": card.facts["model"]["digest"],
        "privacy": federation.privacy.unit,
        "personal": list(federation.local.personal) if own is not None else [],
    }
    lines = [told, f"{_card_of(target)}: its card; what the model is for is left for you to fill in"]
    if own is not None:
        lines.append(f"with this site's own layers: {', '.join(federation.local.personal)}")
    elif federation.local.personal:
        kept = ", ".join(federation.local.personal)
        lines.append(f"without the layers that stay at each site ({kept}): --personal writes yours, too")
    if federation.privacy.is_none:
        lines.append(f"privacy: {NO_PRIVACY}")
    if onnx_target is not None:
        facts |= {"onnx": str(onnx_target), "onnx_checked": checked}
        how = "gives what the model gives" if checked else "not run: onnxruntime is not installed here"
        lines.append(f"{onnx_target}: {output.amount(len(files[onnx_target]))}, {how}")
    output.result("\n".join(lines), facts, as_json)


def _check_apart(target: Path, onnx_target: Path | None) -> None:
    """Raises WrongUse where one file would hold two of model, card and ONNX."""
    named = {"-o": target, "the card": _card_of(target)} | ({"--onnx": onnx_target} if onnx_target is not None else {})
    places = [os.path.realpath(path) for path in named.values()]
    if len(set(places)) < len(places):
        evidence = ", ".join(f"{what}: {path}" for what, path in named.items())
        raise WrongUse(
            evidence=f"each is a file of its own, and here one is another's; {evidence}", verb=" model export"
        )


def _own(home: Home, federation: Federation) -> PersonalState:
    """This site's own layers. Raises WrongUse where the sites share all of them, NoOwnLayers."""
    found = own_layers(home, federation.local.personal)
    if found is None:
        raise WrongUse(evidence="--personal; local.personal in peers.yaml is []", verb=" model export")
    return found


def _card_of(target: Path) -> Path:
    """The page beside a model's file."""
    return target.with_name(target.stem + ".md")


def _onnx(federation: Federation, model: ModelFile) -> tuple[bytes, bool]:
    """The model as ONNX, and whether it was run and gave the same. Nothing is written if it cannot be."""
    output.loading_torch()
    from p2pfl.training.model.onnx_export import as_onnx
    from p2pfl.training.models import build
    from p2pfl.training.registry import load_task

    task = load_task(federation.task)
    return as_onnx(task, model.fitting(build(task).layout))


def _write(files: Mapping[Path, bytes]) -> None:
    """All of them, or none that is cut: each is reserved before one is written. Raises WontOverwrite, NotWritten."""
    with ExitStack() as held:
        writers = [(held.enter_context(reserved(path)), data) for path, data in files.items()]
        try:
            for write, data in writers:
                write(data)
        except BaseException:
            for path in files:
                path.unlink(missing_ok=True)
            raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
