"""`p2pfl model export`: the model out of the sealed home, as plain safetensors that any tool reads."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import (
    Unlock,
    home_option,
    json_option,
    new_file_option,
    reading,
    study_option,
    unlock_options,
    write_new,
)
from p2pfl.cli.reports import NO_PRIVACY
from p2pfl.errors.people import NoModel
from p2pfl.home import Home

ITEM = "checkpoints/model"


def model_of(home: Home) -> bytes:
    """The newest model of `home`, safetensors bytes. Raises NoModel."""
    held = home.read(ITEM)
    if held is None:
        raise NoModel(evidence=f"there is no {ITEM} in it", path=home.path)
    from p2pfl.training.checkpoint import shown  # only on this path: it brings numpy

    return shown(held)


@click.command()
@new_file_option
@study_option
@home_option
@unlock_options
@json_option
def export(target: Path, peers_file: Path | None, home: Path, unlock: Unlock, as_json: bool) -> None:
    """Write the newest model to a safetensors file: named float32 tensors, no code.

    The file is not encrypted. What it tells of any one record is bounded by the ε that `p2pfl status` shows; where the
    sites agreed on `privacy: none`, by nothing, and the file's header says so.
    """
    with reading(home, unlock, peers_file) as opened:
        held = model_of(opened)
    from p2pfl.training import checkpoint  # late: it brings numpy

    write_new(target, held)
    found, unit = hashlib.sha256(held).hexdigest(), checkpoint.facts_of(held).get("privacy")
    facts: dict[str, object] = {"path": str(target), "bytes": len(held), "sha256": found, "privacy": unit}
    told = f"{target}: {output.amount(len(held))}, SHA-256 {found}"
    output.result(told if unit != "none" else f"{told}\nprivacy: {NO_PRIVACY}", facts, as_json)
