"""The cohort lock: data that do not change are summed over one set of sites, whatever the question is called.

Two sums over sets that differ by one site are that site's value. So before a word leaves, the site log takes a keyed
digest of the data and the members of U, and the same data over other members are refused. The digest is of the numbers
as they were given, before any rounding, as a multiset and without zeros: another name, another statistic of them,
another number of decimals, another order or an appended zero make no other data. One changed number does, and nothing
here can tell that from new data. docs/adr/0030. Of another study of the same home the members are other ones, whatever
their names: data that were summed there are not summed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from p2pfl.errors.round import AnotherCohort
from p2pfl.keys import derive, digest
from p2pfl.ledger.site_kinds import QueryEntry
from p2pfl.node.logs import Logs
from p2pfl.node.studies import Elsewhere
from p2pfl.sharing import events as e

LANES: Final = 2  # 64-bit sums in one mark: 128 bits, so that two data do not meet by chance
BLOCK: Final = 1 << 15  # numbers at a time: what is worked on stays in the processor's cache
ODD: Final = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # the mixing constants of MurmurHash3
SHIFT: Final = np.uint64(33)


def flat(values: Any) -> npt.NDArray[Any]:
    """Any vector as a numpy array (m,): a torch tensor without importing torch, Decimals as objects."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values).reshape(-1)


def mark_of(key: bytes, values: Any) -> bytes:
    """32 bytes that name the numbers in `values`, in any order and without the zeros, under this home's secret `key`.

    values   numbers of any kind (m,): each counts as the float64 nearest to it
    The sum over all numbers of a keyed mix of each: time O(m), a block of memory. It need not withstand anybody who
    chooses the numbers: they are this site's own.
    """
    keys = np.frombuffer(derive(key, "home/query", b"mark", length=8 * LANES), "<u8")
    sums = [0] * LANES  # mod 2⁶⁴
    array = flat(values)
    scratch = np.empty((2, min(BLOCK, array.size)), np.uint64)
    for first in range(0, array.size, BLOCK):
        numbers = _as_floats(array[first : first + BLOCK])
        if not numbers.all():
            numbers = numbers[numbers != 0.0]
        bits = numbers.view(np.uint64)
        for lane in range(LANES):
            sums[lane] = (sums[lane] + int(_mixed(bits, keys[lane], *scratch).sum(dtype=np.uint64))) % (1 << 64)
    return digest("query data", key, *(total.to_bytes(8, "big") for total in sums))


def _as_floats(block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if block.dtype == object or block.dtype.kind in "US":
        return np.array([float(Decimal(str(one))) for one in block.tolist()])
    return np.ascontiguousarray(block, np.float64)


def _mixed(
    bits: npt.NDArray[np.uint64], key: np.uint64, found: npt.NDArray[np.uint64], shifted: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """A 64-bit finaliser (Appleby, MurmurHash3) of each number under `key`; the last two are scratch of as many."""
    found, shifted = found[: bits.size], shifted[: bits.size]
    np.bitwise_xor(bits, key, out=found)
    for odd in ODD:
        found ^= np.right_shift(found, SHIFT, out=shifted)
        found *= odd
    found ^= np.right_shift(found, SHIFT, out=shifted)
    return found


class Cohort:
    """The lock of one site's data, in its site log."""

    def __init__(self, logs: Logs, run_id: bytes, name: str, marks: Sequence[bytes]) -> None:
        """`marks`: of each of the data that enter the sum, from `mark_of`."""
        self._logs, self._run_id, self._name, self._marks = logs, run_id, name, tuple(marks)
        self._elsewhere = Elsewhere(logs.home, logs.others)

    def check(self, members: Sequence[str]) -> None:
        """The data may be summed over these members. Raises AnotherCohort."""
        with self._elsewhere.still():
            self._check(list(members), {mark.hex() for mark in self._marks})

    def bind(self, effect: e.Quantise, members: Sequence[str]) -> None:
        """Note that the data are about to enter a sum of these members' data. Raises AnotherCohort."""
        if not self._marks:
            return
        with self._elsewhere.still():
            self._check(list(members), {mark.hex() for mark in self._marks})
            self._note(effect, members)

    def _check(self, members: list[str], marks: set[str]) -> None:
        elsewhere = ((study, index.standing(marks)) for study, index in self._elsewhere.site_logs())
        for study, held in [("", self._logs.standing(marks)), *elsewhere]:
            for facts in held:
                # A site of the same name in another study may be another site: no set there is this one.
                if study or facts["members"] != members:
                    then, now = ", ".join(facts["members"]), ", ".join(members)
                    where = f" of the study {study}" if study else ""
                    evidence = f"then over {then}{where}; now over {now}; asked then as {facts['query']}"
                    raise AnotherCohort(query=self._name, evidence=evidence)

    def _note(self, effect: e.Quantise, members: Sequence[str]) -> None:
        with self._logs.one_step():
            for mark in self._marks:
                noted = QueryEntry(
                    time=self._logs.time,
                    run=self._run_id,
                    round=effect.round,
                    attempt=effect.attempt,
                    query=self._name,
                    data=mark,
                    members=list(members),
                )
                self._logs.note(noted)
