"""All that does not fit in one YAML file, told at once, with line and column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from p2pfl.errors.federation import MissingKey, TableUnfit, WrongValue
from p2pfl.federation.readers import List, Position, Table, Word, YamlNode, shown, truth

TODO: Final = "TODO"  # what `p2pfl task draft` leaves for people to fill in
MOST_TOLD: Final = 40  # misfits that one error lists

T = TypeVar("T")


class Misfits:
    """What does not fit in one file, with its places: readers go on behind a misfit, and all are told together."""

    def __init__(self, place: Position) -> None:
        self._place = place
        self._found: list[tuple[Position, str]] = []
        self._blank: dict[int, list[tuple[Position, str]]] = {}  # by line: what a draft left to fill in

    def add(self, place: Position, what: str) -> None:
        self._found.append((place, what))

    def add_blank(self, place: Position, key: str) -> None:
        """A placeholder of a draft."""
        self._blank.setdefault(place.line, []).append((place, key))

    def only(self, row: Table, keys: tuple[str, ...]) -> None:
        """Every key of `row` must be one of `keys`."""
        for key, (place, _) in row.rows.items():
            if key not in keys:
                self.add(place, f"{row.named(shown(key))} is not known; known here are {', '.join(keys)}")

    def read(self, row: Table, key: str, read: Callable[[YamlNode, str], T], otherwise: T) -> T:
        """The value of `key`; `otherwise` after a misfit, which is kept."""
        if key in row.rows and (blanks := _blanks_in(row.rows[key][1])):
            for place in blanks:
                self.add_blank(place, row.named(key))
            return otherwise
        try:
            return row.value(key, read)
        except MissingKey:
            self.add(row.place, f"{row.named(key)} is missing")
        except WrongValue as error:
            source, line, column = error.fields["place"].rsplit(":", 2)
            text = f"{error.fields['key']} must be {error.fields['wanted']} ({error.evidence})"
            self.add(Position(source, int(line), int(column)), text)
        return otherwise

    def flag(self, row: Table, key: str) -> bool:
        """`true` or `false`; a key that is not there is false."""
        return key in row.rows and self.read(row, key, truth, False)

    def refuse_any(self) -> None:
        """Raises TableUnfit if there is a misfit."""
        for blanks in self._blank.values():  # those of one line are one misfit
            keys = list(dict.fromkeys(key for _, key in blanks))
            rest = "".join(f", {key.rpartition('.')[2]}" for key in keys[1:])
            self.add(blanks[0][0], f"{keys[0]}{rest} {'are' if rest else 'is'} still to fill in")
        if self._found:
            self._refuse()

    def _refuse(self) -> NoReturn:
        (place, first), *others = sorted(self._found, key=lambda one: (one[0].line, one[0].column))
        told = [f"line {at.line}, column {at.column}: {what}" for at, what in others[:MOST_TOLD]]
        told += [f"and {len(others) - MOST_TOLD} more"] if len(others) > MOST_TOLD else []
        evidence = "\n".join(told) or "nothing else in it is wrong"
        raise TableUnfit(evidence=evidence, place=place, source=self._place.source, what=first)


def _blanks_in(node: YamlNode) -> list[Position]:
    """Where a draft's placeholder stands in a value or a list of values."""
    if isinstance(node, Word):
        return [node.place] if node.text == TODO and not node.quoted else []
    return [place for one in node.values for place in _blanks_in(one)] if isinstance(node, List) else []
