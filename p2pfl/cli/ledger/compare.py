"""`p2pfl ledger compare`: are two exported logs the same, one a beginning of the other, or a fork?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from p2pfl.cli import output
from p2pfl.cli.options import json_option, read_whole
from p2pfl.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTEGRITY, EXIT_USAGE
from p2pfl.ledger import export as exports
from p2pfl.ledger.compare import Relation, Signed, check_head
from p2pfl.ledger.compare import compare as compare_exports

STATUS = {
    Relation.IDENTICAL: EXIT_DONE,
    Relation.PREFIX: EXIT_FAILED,
    Relation.FORK: EXIT_INTEGRITY,
    Relation.UNLIKE: EXIT_USAGE,
}


@click.command()
@click.argument("files", nargs=2, type=click.Path(path_type=Path, dir_okay=False))
@json_option
def compare(files: Sequence[Path], as_json: bool) -> None:
    """Whether two exported logs are the same, one a beginning of the other, or a fork, and from which entry on.

    Each must have the head that its site signed. Exit status 0 when they are the same, 1 when one is behind, 2 for a
    site's log beside a federation's or another site's, and for logs of two federations, 5 for a fork, which is shown
    with who signed both sides of it, and for a file that its site did not sign.
    """
    one, other = (exports.read_export(read_whole(file), str(file)) for file in files)
    found = compare_exports(one, other, (check_head(one, str(files[0])), check_head(other, str(files[1]))))
    facts: dict[str, object] = {
        "relation": found.relation.value,
        "entry": found.entry,
        "behind": found.shorter,
        "roots": [one.root.hex(), other.root.hex()],
        "heads": [_head_facts(head) for head in found.heads or ()],
        "signed_both": {"heads": list(found.both_heads), "entries": list(found.both_entries)},
    }
    output.result(f"{found.relation.value}: {found.text}", facts, as_json)
    raise click.exceptions.Exit(STATUS[found.relation])


def _head_facts(head: Signed) -> dict[str, object]:
    return {"site": head.site, "entries": head.size, "root": head.root.hex(), "signed_by": sorted(head.signers)}
