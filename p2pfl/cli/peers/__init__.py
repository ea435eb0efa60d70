"""`p2pfl peers`: make peers.yaml from cards, show and compare it, read keys aloud, and change who takes part.

One file a verb; `changes.py` holds what the verbs that change the membership share.
"""

from __future__ import annotations

from p2pfl.cli.verbs import Verbs

peers = Verbs(
    "peers",
    "p2pfl.cli.peers",
    {
        "create": "Write the peers file of the sites whose CARDS are given, every default in full.",
        "show": "Who is in FILE, what they agreed on, what each firewall must open.",
        "diff": "Line by line, how another site's file differs from --peers.",
        "fingerprint": "Eight words per key, to be read aloud.",
        "propose": "Make a change of membership, signed by this site.",
        "approve": "Show a change of membership, ask, and add this site's signature.",
        "accept": "At a site that joins: show what it joins, ask, and sign.",
        "adopt": "Put an approved change into this home, where no other site handed it over.",
        "new-key": "Make the key that this site changes to, and its card.",
        "revoke": "At this site, at once: accept nothing of a site's key any more.",
    },
    text="Make, show and compare peers.yaml; print fingerprints; change who takes part.",
)
