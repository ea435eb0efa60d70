"""One site's records dealt to several simulated ones, for somebody who has a single table."""

from __future__ import annotations

import hashlib

import numpy as np

from p2pfl.errors.training import WrongSimulation
from p2pfl.training.records.records import LEAST_RECORDS, Records


def deal(records: Records, sites: int) -> dict[str, Records]:
    """`records` by simulated site (site-1, site-2, …), as equal in number as patients allow.

    Patients are put into the order of the SHA-256 of their bytes and go round, so that all records of one are at one
    site, and the same file is dealt alike each time. Such sites differ by chance alone, and real ones by their patients
    and machines: a real federation learns less evenly. Raises WrongSimulation for too few records.
    """
    if len(records) < sites * LEAST_RECORDS:
        evidence = f"{len(records)} records for {sites} sites; each has at least {LEAST_RECORDS}"
        raise WrongSimulation(evidence=evidence)
    held: dict[bytes, list[int]] = {}
    for row in range(len(records)):
        held.setdefault(records.patient(row), []).append(row)
    order = sorted(held, key=lambda patient: hashlib.sha256(patient).digest())
    dealt: list[list[int]] = [[] for _ in range(sites)]
    for place, patient in enumerate(order):
        dealt[place % sites] += held[patient]
    return {f"site-{place + 1}": records.at(np.array(sorted(rows), np.int64)) for place, rows in enumerate(dealt)}
