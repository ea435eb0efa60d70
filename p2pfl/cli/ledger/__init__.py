"""`p2pfl ledger`: verify, show, export, compare and evidence. All of it only reads, beside a `join` that runs."""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

ledger = Verbs(
    "ledger",
    "p2pfl.cli.ledger",
    {
        "verify": "Check both logs: frames, chain, Merkle root, signed heads, and what each entry claims.",
        "show": "The entries of a log, one line each.",
        "export": "Write a log as it was signed: to be compared, or for an auditor.",
        "compare": "Whether two exported logs are the same, one a beginning of the other, or a fork.",
        "evidence": "The proofs against sites that broke the protocol; or whether a file is such a proof.",
    },
    text="Verify, show, export and compare the ledger; and the proofs against sites that broke the protocol.",
)
