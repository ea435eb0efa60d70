"""What people did beside a running site: kept in the home until a process that holds a site log writes it there.

A site log has one writer, the process that takes part. A verb that runs beside it, or while none does, puts a note
here before it does what the note says (`withdraw`: right behind it, docs/adr/0101). The process takes all of them up
after its next round, into the entry that stands there for the rounds since the last one (`acts`): peers are told how
long the log is, and would else see that something was done, and when. Equal notes are one that counts, so that a verb
which runs every night fills nothing.

A home of several studies has one list of notes, and any of their processes takes it up. The one that does says first
into which log: where it dies before the notes are gone here, whoever comes next sees whether they stand there.
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


@dataclass(frozen=True, slots=True)
class Taken:
    """Notes that a process has taken up: `notes` stand in the site log of its study, behind its first `entries`, or
    the process died before."""

    study: str
    entries: int
    notes: tuple[Note, ...]


Stands = Callable[[Taken], bool]  # the site log of that study has them


@dataclass(frozen=True, slots=True)
class NoteList:
    """What a home holds: notes that nobody has taken up, oldest first, and those that somebody has."""

    notes: tuple[Note, ...] = ()
    taken: Taken | None = None

    def untold(self, stands: Stands) -> list[Note]:
        """Those that no site log has, oldest first."""
        taken = () if self.taken is None or stands(self.taken) else self.taken.notes
        return [*taken, *self.notes]


def note_list(home: Home) -> NoteList:
    """As they stand. Raises ItemDamaged."""
    data = home.read(NOTES)
    if data is None:
        return NoteList()
    facts = codec.read_facts(data)
    taken = facts.get("taken")
    if taken is None:
        return NoteList(_notes(facts["notes"]))
    return NoteList(_notes(facts["notes"]), Taken(taken["study"], taken["entries"], _notes(taken["notes"])))


def pending(home: Home) -> list[Note]:
    """All that lie here, oldest first. Raises ItemDamaged."""
    return note_list(home).untold(lambda _: False)


def put(home: Home, command: str, at: int, options: Options) -> None:
    """Durable on return."""
    with home.beside():
        put_beside(home, command, at, options)


def put_beside(home: Home, command: str, at: int, options: Options) -> None:
    """The same, for whoever holds the lock of what is written beside others."""
    new, before = Note(command, at, {**options, "times": 1}), note_list(home)
    held = list(before.notes)
    same = next((place for place, one in enumerate(held) if one.what == new.what), None)
    if same is not None:
        held[same] = held[same].and_then(new)
    else:
        held.append(new)
    _write(home, NoteList(tuple(_fewer(held)), before.taken))


def hand_over(home: Home, entries: Callable[[], int], write: Callable[[list[Note]], None], stands: Stands) -> None:
    """`write` puts the notes, if there are any, into the site log of this study, durable when it returns; then they
    are gone here.

    entries   how many that log has
    """
    with home.beside():
        held = note_list(home)
        untold = _fewer(held.untold(stands))
        if untold:
            _write(home, NoteList(taken=Taken(home.study, entries(), tuple(untold))))
        write(untold)
        if held != NoteList():
            home.remove(NOTES)


def _fewer(held: list[Note]) -> list[Note]:
    while len(held) > MOST_NOTES:
        first = held[0]
        again = next((one for one in held[1:] if one.command == first.command), None)
        if again is None:
            return held
        held = [first.and_then(again) if one is again else one for one in held[1:]]
    return held


def _notes(rows: list[codec.Facts]) -> tuple[Note, ...]:
    return tuple(Note(row["command"], row["at"], row["options"]) for row in rows)


def _rows(held: tuple[Note, ...]) -> list[codec.Facts]:
    return [{"command": one.command, "at": one.at, "options": dict(one.options)} for one in held]


def _write(home: Home, held: NoteList) -> None:
    facts: codec.Facts = {"notes": _rows(held.notes)}
    if held.taken is not None:
        facts["taken"] = {
            "study": held.taken.study,
            "entries": held.taken.entries,
            "notes": _rows(held.taken.notes),
        }
    home.replace(NOTES, codec.facts(facts))
