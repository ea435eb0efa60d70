"""What people did beside a running site: kept in the home until a process that holds a site log writes it there.

A site log has one writer, the process that takes part. A verb that runs beside it, or while none does, puts a note
here before it does what the note says (`withdraw`: right behind it, docs/adr/0101). The process takes all of them up
after its next round, into the entry that stands there for the rounds since the last one (`acts`): peers are told how
long the log is, and would else see that something was done, and when. Equal notes are one that counts, so that a verb
which runs every night fills nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from p2pfl import codec
from p2pfl.home.home import Home

NOTES: Final = "membership/notes"
COUNTS: Final = ("times", "records")  # options that are added up
MOST_NOTES: Final = 1000  # beyond them the oldest two of one command become one
Options = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Note:
    """Somebody ran `command`, the last time at `at` (Unix seconds); options without paths, values or secrets."""

    command: str
    at: int
    options: Options

    @property
    def what(self) -> tuple[object, ...]:
        """What makes two notes one."""
        return self.command, *sorted((key, value) for key, value in self.options.items() if key not in COUNTS)

    def and_then(self, later: Note) -> Note:
        """Both as one; of options in which they differ nothing is said."""
        counted = {key: int(self.options.get(key, 0)) + int(later.options.get(key, 0)) for key in COUNTS}
        same = {key: value for key, value in self.options.items() if later.options.get(key) == value}
        return Note(self.command, later.at, same | {key: count for key, count in counted.items() if count})


def pending(home: Home) -> list[Note]:
    """The notes that no site log has yet, oldest first. Raises ItemDamaged."""
    data = home.read(NOTES)
    if data is None:
        return []
    rows = codec.read_facts(data)["notes"]
    return [Note(row["command"], row["at"], row["options"]) for row in rows]


def put(home: Home, command: str, at: int, options: Options) -> None:
    """Durable on return."""
    with home.beside():
        put_beside(home, command, at, options)


def put_beside(home: Home, command: str, at: int, options: Options) -> None:
    """The same, for whoever holds the lock of what is written beside others."""
    new = Note(command, at, {**options, "times": 1})
    held = pending(home)
    same = next((place for place, one in enumerate(held) if one.what == new.what), None)
    if same is not None:
        held[same] = held[same].and_then(new)
    else:
        held.append(new)
    _write(home, _fewer(held))


def hand_over(home: Home, write: Callable[[list[Note]], None]) -> None:
    """`write` puts the notes, if there are any, into a site log, durable when it returns; then they are gone here."""
    with home.beside():
        held = pending(home)
        write(held)
        if held:
            home.remove(NOTES)


def _fewer(held: list[Note]) -> list[Note]:
    while len(held) > MOST_NOTES:
        first = held[0]
        again = next((one for one in held[1:] if one.command == first.command), None)
        if again is None:
            return held
        held = [first.and_then(again) if one is again else one for one in held[1:]]
    return held


def _write(home: Home, held: list[Note]) -> None:
    rows = [{"command": one.command, "at": one.at, "options": dict(one.options)} for one in held]
    home.replace(NOTES, codec.facts({"notes": rows}))
