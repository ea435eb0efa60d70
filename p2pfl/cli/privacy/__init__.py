"""`p2pfl privacy`: what a budget buys."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

privacy = Verbs(
    "privacy",
    "p2pfl.cli.privacy",
    {"plan": "From a budget and the number of records: noise, batch and rounds to write into peers.yaml."},
    text="What a privacy budget buys.",
)
