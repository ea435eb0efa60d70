"""The verbs of `p2pfl keys`: what opens this site's home."""

from __future__ import annotations

from typing import Final

from p2pfl.cli.verbs import Verbs

VERBS: Final = {
    "list": "Which keys open this home.",
    "add": "Add a key that opens this home.",
    "remove": "Take a key away: it opens this home no more.",
    "rotate": "Put a fresh key in the place of one.",
}

keys = Verbs(
    "keys",
    "p2pfl.cli.keys",
    VERBS,
    attributes={"list": "list_"},
    text="The keys that open this site's home: key file, pass phrase, credential, program, recovery words. A site that "
    "runs goes on meanwhile, and its site log says what was done.",
)
