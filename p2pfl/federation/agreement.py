"""No site signs an agreement that it was not shown.

A site's first hello carries its signature under the business associate agreement that peers.yaml names by its digest.
So before that the site must be given the document itself, and its bytes are compared.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from p2pfl.errors.membership import AgreementUnseen, AnotherAgreement
from p2pfl.errors.people import NotReadable
from p2pfl.files import LARGE_BYTES, read_file


def assent(named: bytes | None, document: Path | None, *, source: str, signed: bool) -> None:
    """Return if this site may sign the agreement whose SHA-256 `source` names; named=None: it names none.

    document  the agreement as this site holds it
    signed    this site's signature is in the ledger already, so no document is needed
    Raises AgreementUnseen without a document, AnotherAgreement when it is another one, NotReadable.
    """
    if document is None:
        if named is not None and not signed:
            raise AgreementUnseen(source=source, evidence=f"SHA-256 {named.hex()}")
        return
    try:
        held = hashlib.sha256(read_file(document, LARGE_BYTES)).digest()
    except OSError as error:
        raise NotReadable(evidence=error.strerror or type(error).__name__, path=document) from None
    if held != named:
        evidence = f"SHA-256 {held.hex()}, there {named.hex() if named else 'none'}"
        raise AnotherAgreement(source=source, path=document, evidence=evidence)
