"""`p2pfl task`: what is learned."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

task = Verbs(
    "task",
    "p2pfl.cli.task",
    {
        "draft": "Write the description of a table from the columns of a CSV, with no number of its records.",
        "new": "Write a task in Python with every hook, to be changed.",
        "check": "Take a few private steps with a task on your own records; nothing leaves.",
        "review": "Show a task's code, and what changed since it was approved here.",
        "approve": "Say that you have read a task's code: from now on it may run here.",
    },
    text="Describe what is learned, or program it; read and approve what others have programmed.",
)
