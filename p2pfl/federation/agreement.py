"""No site signs an agreement that it was not shown.

The first hello of a site carries its signature under the business associate agreement that peers.yaml names by its
digest. So before that the site is handed the document itself, and its bytes are compared.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from p2pfl.errors.membership import AgreementUnseen, AnotherAgreement
from p2pfl.errors.people import NotReadable


def assent(named: bytes | None, document: Path | None, *, source: str, signed: bool) -> None:
    """Return when this site may sign for the agreement `named`, a SHA-256, by `source`; None: none is named.

    document  the agreement as this site holds it
    signed    this site's signature is in the ledger already: nothing new is asked for
    Raises AgreementUnseen without a document, AnotherAgreement when it is another one, NotReadable.
    """
    if document is None:
        if named is not None and not signed:
            raise AgreementUnseen(source=source, evidence=f"SHA-256 {named.hex()}")
        return
    try:
        held = hashlib.sha256(document.read_bytes()).digest()
    except OSError as error:
        raise NotReadable(evidence=error.strerror or type(error).__name__, path=document) from None
    if held != named:
        evidence = f"SHA-256 {held.hex()}, there {named.hex() if named else 'none'}"
        raise AnotherAgreement(source=source, path=document, evidence=evidence)
