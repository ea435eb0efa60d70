"""This site's number for `p2pfl sum`: a value, or a statistic of a CSV's column. Pure, but for reading a file or stdin.

What a site puts in is a short vector of exact decimals; the statistic is read from the sum of all sites' vectors.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Final

from p2pfl.cli import output
from p2pfl.errors.counts import counted
from p2pfl.errors.people import (
    NoRoomForDecimals,
    NoSuchColumn,
    NothingToSum,
    NotReadable,
    ValueNotANumber,
    ValueTooFine,
)
from p2pfl.files import LARGE_BYTES, read_file

STATISTICS: Final = ("mean", "sum", "count", "variance")
NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
MOST_DECIMALS: Final = 9  # of a value
FINE: Final = 4  # digits of a variance above which its squares leave little room
EXACT_BITS: Final = 61  # of the field of exact sums
LONGEST_LINE: Final = 200  # characters read of stdin
PRECISION: Final = 200  # digits that rounding keeps: more than any value has
BLANK: Final = ("", "?", "NA", "NaN", "nan")  # not measured: not part of any statistic


def number(text: str, place: str, column: str) -> Decimal:
    """A plain decimal number. Raises ValueNotANumber, which does not repeat the text: it may be a patient's."""
    if len(text) >= LONGEST_LINE or not NUMBER.fullmatch(text.strip()):
        raise ValueNotANumber(
            evidence=f"{len(text)} characters, and no plain decimal number", place=place, column=column
        )
    return Decimal(text.strip())


def own_values(value: str | None, file: Path | None, column: str | None) -> list[Decimal]:
    """The numbers of this site. `value` "-" reads one from stdin, so that it is in no process list.

    Raises NothingToSum, NoSuchColumn, ValueNotANumber, NotReadable, DataEmpty, DataNotText.
    """
    if (value is None) == (file is None) or (file is not None) != (column is not None):
        given = [option for option, there in (("--value", value), ("--csv", file), ("--column", column)) if there]
        raise NothingToSum(evidence=f"given: {', '.join(given) or 'nothing'}")
    if value is not None:
        return [number(_typed() if value == "-" else value, "--value", "the value")]
    return _column(Path(str(file)), str(column))


def _typed() -> str:
    """The line that a person types, or a pipe holds; one that is too long stays so, and is no number."""
    if sys.stdin.isatty():
        output.progress("this site's number, and Enter:")
    return sys.stdin.readline(LONGEST_LINE)


def _column(path: Path, column: str) -> list[Decimal]:
    """The numbers of a column. Raises NoSuchColumn, ValueNotANumber, NotReadable, DataEmpty, DataNotText."""
    from p2pfl.training.records.columns import header_told, rows_of  # numpy, which one value does not need

    try:
        rows = rows_of(read_file(path, LARGE_BYTES), str(path))
    except OSError as error:
        raise NotReadable(evidence=error.strerror or type(error).__name__, path=path) from None
    header = [name.strip() for name in next(rows)[1]]
    if column not in header:
        raise NoSuchColumn(evidence=header_told(header), path=path, column=column)
    at, found = header.index(column), list[Decimal]()
    for line, row in rows:
        place = f"{path}:{line}"
        if len(row) != len(header):  # a decimal comma splits a number in two: half of it must not count
            evidence = f"{len(row)} cells, the first line has {len(header)}"
            raise ValueNotANumber(evidence=evidence, place=place, column=column)
        if row[at].strip() not in BLANK:
            found.append(number(row[at], place, column))
    return found


def summed_decimals(statistic: str, decimals: int) -> int:
    """Digits behind the point that are summed, and told: a square has twice as many, and none of them may be lost."""
    return 2 * decimals if statistic == "variance" else decimals


def parts(statistic: str, values: Sequence[Decimal], decimals: int) -> tuple[Decimal, ...]:
    """What this site adds to the sum for `statistic`.

    decimals   digits behind the point of a value that count
    Raises ValueTooFine: a variance is a small difference of large sums, which rounding would be larger than.
    """
    from p2pfl.sharing.statistics import mean_parts, variance_parts

    if statistic == "count":
        return (Decimal(len(values)),)
    if statistic != "variance":
        return mean_parts(values)
    finest = max((-int(one.normalize().as_tuple().exponent) for one in values), default=0)
    if finest > decimals:
        evidence = f"--decimals {decimals} at this site"
        raise ValueTooFine(evidence=evidence, digits=counted(finest, "digit"))
    return variance_parts(values)


def room_for(statistic: str, decimals: int, sites: int) -> Decimal:
    """The most that one of so many sites may add to the statistic: 61 bits hold the sum of all, digits and all."""
    from p2pfl.sharing.field import FIELDS
    from p2pfl.sharing.quantiser import largest

    return Decimal(largest(FIELDS[EXACT_BITS], sites)).scaleb(-summed_decimals(statistic, decimals))


def check_room(statistic: str, values: Sequence[Decimal], decimals: int, sites: int) -> None:
    """What this site adds fits into the sum, before any other site waits for it. Raises NoRoomForDecimals."""

    def fits(digits: int) -> bool:
        with localcontext(prec=PRECISION):
            rounded = [round(one, digits) for one in values]
        return max(map(abs, parts(statistic, rounded, digits))) <= room_for(statistic, digits, sites)

    if fits(decimals):
        return
    fewer = next((digits for digits in range(decimals - 1, -1, -1) if fits(digits)), 0)
    evidence = f"each of {sites} sites may add {int(room_for(statistic, decimals, sites))} at most"
    raise NoRoomForDecimals(evidence=evidence, statistic=statistic, decimals=decimals, fits=fewer)


def read_off(statistic: str, total: Sequence[Decimal]) -> Decimal:
    """The statistic of all sites' values together. Raises NothingToAverage."""
    from p2pfl.sharing.statistics import mean_of, variance_of

    if statistic == "variance":
        return variance_of(total)
    return mean_of(total) if statistic == "mean" else total[0]
