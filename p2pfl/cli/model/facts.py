"""A home's newest model and what its ledger says of it ► the model's card: the same bytes at every site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from p2pfl._version import __version__
from p2pfl.errors.models import NotTheLedgersModel, OtherTraining
from p2pfl.errors.people import WrongUse
from p2pfl.federation import Federation
from p2pfl.federation.membership import genesis_digest
from p2pfl.federation.table_facts import decimal_text
from p2pfl.home import Home
from p2pfl.ledger import entry as entries
from p2pfl.ledger.log import Log
from p2pfl.training.model.card import VERSION, ModelCard, model_facts, task_digest, task_facts
from p2pfl.training.model.state import ModelState
from p2pfl.training.privacy.account import Mechanism, alone_after, decimal_epsilon

OF_A_TRAINING: Final = ("training", "evaluation")

Record = Mapping[str, Any]


def card_of(home: Home, federation: Federation, state: ModelState, licence: str | None) -> ModelCard:
    """The card of what is shown of `state`, the newest of `home`: a function of the federation log and of peers.yaml.

    licence     where peers.yaml names none
    Raises OtherTraining, NotTheLedgersModel, WrongUse.
    """
    log = Log.open(home, "federation")
    records = [entries.read_record(one.record) for one in log.records()]
    if not records or records[0]["federation_digest"] != federation.first.hex():
        known = records[0]["federation_digest"][:16] if records else "none"
        evidence = f"the ledger begins with peers.yaml {known}…, this one with {federation.first.hex()[:16]}…"
        raise OtherTraining(evidence=evidence, path=home.path, peers_file=federation.source)
    places = [place for place, one in enumerate(records) if _is_training(one)]
    rounds = [records[place] for place in places]
    named = rounds[-1]["model_after"] if rounds else "none"
    if state.digest.hex() != named:
        evidence = f"the model is {state.digest.hex()[:16]}…, the ledger's {named[:16]}…"
        raise NotTheLedgersModel(evidence=evidence, path=home.path)
    entries_told = places[-1] + 1
    last = next(one for one in reversed(records[:entries_told]) if one["kind"] in ("genesis", "membership"))
    return ModelCard.of(
        {
            "card": VERSION,
            "software": f"p2pfl {__version__}",
            "federation": {
                "name": federation.name,
                "epoch": last["epoch"],
                "sites": [name for name, _ in last["peers"]],
                "first": federation.first.hex(),
            },
            "task": task_facts(federation.task),
            "task_digest": task_digest(federation.task).hex(),
            "model": model_facts(state),
            "training": _training(federation, rounds),
            "metric": _metric(rounds, named),
            "privacy": _privacy(federation, rounds),
            "ledger": {
                "entries": entries_told,
                "root": log.root_at(entries_told).hex(),
                "genesis": genesis_digest(log[0].record).hex(),
            },
            "threshold": _text(federation.model.threshold),
            "licence": _licence(federation, licence),
        }
    )


def _is_training(record: Record) -> bool:
    return record["kind"] == "round" and record["configuration"].get("purpose") in OF_A_TRAINING


def _training(federation: Federation, rounds: Sequence[Record]) -> dict[str, Any]:
    trained = [one for one in rounds if one["configuration"]["purpose"] == "training"]
    names = sorted({name for one in trained for name in one["survivors"]})
    sharing, compression = federation.sharing, federation.compression
    return {
        "run": rounds[0]["run"],
        "rounds": len(trained),
        "began": rounds[0]["time_ms"],
        "ended": trained[-1]["time_ms"],
        "in_rounds": {name: sum(name in one["survivors"] for one in trained) for name in names},
        "field": sharing.field,
        "clip": decimal_text(sharing.clip),
        "scale": decimal_text(sharing.scale),
        "compression": compression.method,
        "density": decimal_text(compression.density),
        "weights": federation.weights,
        "server": federation.server.method,
        "average": decimal_text(federation.average.decay),
        "personal": list(federation.local.personal),
    }


def _metric(rounds: Sequence[Record], model: str) -> dict[str, Any] | None:
    """Of the round that measured the model; None where none did."""
    held = next((one["outcome"] for one in rounds if one["model_before"] == model and one["outcome"]["figures"]), None)
    if held is None:
        return None
    figures = {
        name: {"value": row[0], "low": row[1] or None, "high": row[2] or None} for name, row in held["figures"].items()
    }
    return {"name": held["metric"], "model": "last", "figures": figures, "private": held["private"]}


def _privacy(federation: Federation, rounds: Sequence[Record]) -> dict[str, Any] | None:
    """None where the sites agreed on `privacy: none`."""
    private = federation.privacy
    if private.is_none:
        return None
    spent = [text for one in rounds for text in one["epsilon"].values() if text]
    told = max(spent, key=float, default="0")
    alone = None
    if private.is_distributed:
        # The sites tell one figure. The other is that of as many passes of this study as come to it.
        alone = decimal_epsilon(alone_after(Mechanism.of_pass(private), float(told), private.delta))
    return {
        "unit": private.unit,
        "epsilon": told,
        "delta": decimal_text(private.delta),
        "max_epsilon": decimal_text(private.max_epsilon),
        "noise_multiplier": decimal_text(private.noise_multiplier),
        "max_grad_norm": decimal_text(private.max_grad_norm),
        "sample_rate": decimal_text(private.sample_rate),
        "steps_per_round": private.steps_per_round,
        "parts": private.parts,
        "epsilon_alone": alone,
    }


def _licence(federation: Federation, given: str | None) -> str | None:
    """The one that was agreed, else the one that this site gives. Raises WrongUse where they differ."""
    agreed = federation.model.licence
    if agreed is not None and given not in (None, agreed):
        raise WrongUse(evidence=f"--licence {given}; the sites agreed on {agreed}", verb=" model export")
    return agreed or given


def _text(value: float | None) -> str | None:
    return None if value is None else decimal_text(value)
