"""One table of the settings of peers.yaml: key, what it may be, its default, and what it means.

`federation.py` reads peers.yaml by this table and `draft.py` writes one from it, so a setting cannot be in only one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from p2pfl.errors.optimisers import WeightsTellSizes
from p2pfl.federation.personal_layers import read_layers
from p2pfl.federation.readers import Word, YamlNode, between, choice, decimal, nothing_or, part, text, truth, whole
from p2pfl.federation.statistics_rules import read_columns_named, read_columns_or_all, read_kinds
from p2pfl.roster import NAME

HEX32: Final = text(r"[0-9a-f]{64}", "64 hexadecimal digits, lower case")


def weights(node: YamlNode, key: str) -> str:
    """`equal`. Raises WeightsTellSizes for weights by each site's number of records, with the reason."""
    if isinstance(node, Word) and node.text in ("records", "secret"):
        raise WeightsTellSizes(evidence=f"{node.place}: {key}: {node.text}", weights=node.text)
    return choice("equal")(node, key)


PLAIN: Final = choice("none")  # `privacy: none`, in the place of that whole table
LICENCE: Final = text(r"[A-Za-z0-9][A-Za-z0-9.+() -]{0,63}", "a licence by its SPDX name, as CC-BY-4.0")


@dataclass(frozen=True, slots=True)
class Setting:
    """`key` is dotted; `default` is the word as it stands in the file."""

    key: str
    read: Callable[[YamlNode, str], Any]
    default: str
    comment: str

    @property
    def table(self) -> str:
        """The heading it stands under; "" for the top."""
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


SETTINGS: Final = (
    Setting("rounds", whole(1, 100_000), "8", "rounds that must become final; one left behind is charged"),
    Setting("privacy.unit", choice("record", "patient"), "record", "what is sampled, clipped and counted as one"),
    Setting("privacy.noise_multiplier", decimal(0.01, 1000), "1.1", "noise on each step, in units of max_grad_norm"),
    Setting("privacy.max_grad_norm", decimal(1e-6, 1e6), "1.0", "L2 norm to which one unit's gradient is clipped"),
    Setting("privacy.sample_rate", decimal(1e-9, 1), "0.02", "chance of each unit to be in a step; equal everywhere"),
    Setting("privacy.steps_per_round", whole(1, 1_000_000), "80", "DP-SGD steps of one round; equal at all sites"),
    Setting(
        "privacy.noise", choice("local", "distributed"), "local", "local: each update is private; distributed: the sum"
    ),
    Setting(
        "privacy.colluders",
        nothing_or(whole(1, 1000)),
        "null",
        "of noise in parts, looks and questions too: sites that may pool all; null: q-2",
    ),
    Setting("privacy.delta", decimal(1e-20, 0.5), "1e-5", "public; well below 1 / units of a site"),
    Setting("privacy.max_epsilon", decimal(0, 100), "3.0", "no site starts a pass that would spend more, ever"),
    Setting(
        "local.optimiser", choice("task", "sgd", "momentum", "adam"), "task", "of a site's pass; task: its own choice"
    ),
    Setting("local.learning_rate", nothing_or(decimal(0, 1000)), "null", "of that optimiser; null: the task's"),
    Setting("local.momentum", part, "0.9", "of momentum; of adam, its first beta"),
    Setting("local.schedule", choice("constant", "linear", "cosine", "step"), "constant", "of the learning rate"),
    Setting("local.warmup_steps", whole(0, 100_000_000), "0", "of the training, over which the learning rate rises"),
    Setting("local.decay_steps", whole(1, 100_000_000), "1000", "of schedule step: after each so many steps ..."),
    Setting("local.decay", decimal(0, 1), "0.5", "... the learning rate is multiplied by this"),
    Setting("local.personal", read_layers, "[]", "layers that stay at each site, as [head]: trained, never sent"),
    Setting(
        "server.method", choice("mean", "momentum", "adam"), "mean", "what each site does with the mean of updates"
    ),
    Setting("server.learning_rate", decimal(0, 1000), "1.0", "what that step is multiplied by; of adam 0.1 or less"),
    Setting("server.momentum", part, "0.9", "of momentum; of adam, its first beta"),
    Setting("server.beta2", part, "0.99", "of adam"),
    Setting("server.tau", decimal(1e-12, 1000), "0.001", "of adam: the least root of a second moment that counts"),
    Setting("average.decay", between(0, 1), "0.0", "of the running mean of models, which is what is used; 0: none"),
    Setting("stop.patience", whole(0, 100_000), "0", "measured rounds without gain that end the training; 0: none do"),
    Setting("stop.least", between(0, 1e9), "0.0", "what counts as a gain of the metric over the best before"),
    Setting("stop.better", choice("higher", "lower"), "higher", "which way the metric is better"),
    Setting(
        "measures.noise_multiplier",
        between(0, 1000),
        "0.0",
        "on the counts of held-out records; 0: exact, over all or none",
    ),
    Setting("measures.looks", whole(1, 100_000), "4", "with noise: so many rounds measure the model, the last one too"),
    Setting(
        "measures.epsilon",
        decimal(0, 100),
        "1.0",
        "with noise: what no held-out record spends more of, ever, against outsiders and privacy.colluders",
    ),
    Setting("sharing.field", choice("16", "31", "61"), "31", "bits of the prime field that updates are summed in"),
    Setting("sharing.verify", truth, "true", "check every chunk's sum by random linear forms, before anyone vouches"),
    Setting("sharing.clip", decimal(1e-12, 1e9), "10.0", "L2 norm to which a site's whole update is clipped"),
    Setting("sharing.scale", decimal(1e-12, 1e9), "1.0", "largest absolute value of a coordinate; more is clipped"),
    Setting(
        "compression.method",
        choice("none", "lowrank", "nominate", "leader", "random"),
        "none",
        "under 10^5 parameters none is enough",
    ),
    Setting(
        "compression.density",
        decimal(0, 1),
        "0.01",
        "part of the parameters that a round sends, unless by none",
    ),
    Setting(
        "compression.scores",
        choice("own", "both"),
        "own",
        "what nominates: a site's own updates, or beside them what the model has moved",
    ),
    Setting("minimum.sites", whole(3, 1000), "3", "a statistic of fewer sites that have a value is not opened"),
    Setting(
        "minimum.records", whole(1, 1_000_000), "5", "nor one of a column of which no site alone has so many records"
    ),
    Setting("statistics.minimum_cell", whole(1, 1_000_000), "5", "people in a group that is counted, or nobody"),
    Setting("statistics.most_numbers", whole(1, 10_000_000), "10000", "that one question may open"),
    Setting("statistics.questions", whole(1, 1_000_000), "100", "about one data set, counted at each site"),
    Setting("statistics.only", read_columns_or_all, "all", "columns that may be asked: all, or a list, as [age, sex]"),
    Setting("statistics.never", read_columns_named, "[]", "columns that may not be asked, as [postcode]"),
    Setting("statistics.standing", read_kinds, "[]", "kinds of question that need no approval, as [describe, km]"),
    Setting(
        "statistics.noise_multiplier",
        between(0, 1000),
        "0.0",
        "of each sum, in units of what one unit moves; 0: exact and guarded",
    ),
    Setting("weights", weights, "equal", "each record counts the same, wherever it lies; no letter states a size"),
    Setting("model.threshold", nothing_or(decimal(0, 1)), "null", "probability from which predict says yes, or null"),
    Setting("model.licence", nothing_or(LICENCE), "null", "of the model that comes out, as CC-BY-4.0, or null"),
    Setting("agreement.sha256", nothing_or(HEX32), "null", "digest of the business associate agreement, or null"),
    Setting("topology", choice("mesh", "hub"), "mesh", "hub: one site relays first, and owns all chunks"),
    Setting("hub", nothing_or(text(NAME.pattern, "a site's name")), "null", "that site; it must list an address"),
)

BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
HEADINGS: Final = (
    "privacy", "local", "server", "average", "stop", "measures", "sharing", "compression", "minimum", "statistics",
    "model", "agreement",
)  # fmt: skip
# The order of the file; what is not in SETTINGS is read by federation.py itself.
TOP: Final = (
    "version", "federation", "epoch", "peers", "task", "rounds", "privacy", "local", "server", "average", "stop",
    "measures", "sharing", "compression", "minimum", "statistics", "weights", "model", "agreement", "topology", "hub",
)  # fmt: skip
