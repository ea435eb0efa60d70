"""`p2pfl task`: what is learned."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

task = Verbs(
    "task",
    "p2pfl.cli.task",
    {"draft": "Write the description of a table from the columns of a CSV, with no number of its records."},
    text="Describe what is learned.",
)
