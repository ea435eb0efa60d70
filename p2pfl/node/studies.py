"""The studies of a home: which of them a peers.yaml belongs to, and what one has to know of the others.

A study is a federation, from its first epoch to its last. Each has logs, attempts, models and members of its own, and
says nothing of the others to anybody; they have the site's key, the approved tasks and the privacy accounts in common.
docs/adr/0049.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from p2pfl.errors.home import NoSuchStudy, SeveralStudies
from p2pfl.errors.ledger import OtherFederation
from p2pfl.federation import Federation
from p2pfl.federation.membership import RUNS, run_of
from p2pfl.home import Home
from p2pfl.home.keyslots import KeySource
from p2pfl.home.segments import SegmentFiles
from p2pfl.ledger.log import Log
from p2pfl.ledger.note import Head
from p2pfl.node.epochs import AGREED, enter
from p2pfl.node.logs import epochs_of
from p2pfl.node.other_logs import OtherLogs
from p2pfl.node.site_index import SiteIndex


@dataclass(frozen=True, slots=True)
class Study:
    """One study that a home has begun, or is about to: the home as that sees it, and its latest peers.yaml."""

    home: Home
    federation: Federation

    @property
    def begun(self) -> bool:
        """Its federation log has entries, or had some."""
        return bool(SegmentFiles(self.home, "federation").numbers())

    def is_of(self, given: Federation) -> bool:
        """The file is this study's, of whichever epoch; or, before it has begun, an edited one of its name."""
        if given.first == self.federation.first:
            return True
        return not self.begun and given.name == self.federation.name


def studies_of(home: Home) -> list[Study]:
    """All studies of a home, the one at its root first. Raises ItemDamaged."""
    found = []
    for one in home.studies():
        held = one.read(AGREED)
        if held is not None:
            found.append(Study(one, Federation.parse(held, "peers.yaml in this home")))
    return found


@contextmanager
def open_study(place: Path, given: Federation, *, unlock: Sequence[KeySource]) -> Iterator[tuple[Home, Federation]]:
    """The home at `place` in the study of that peers.yaml, for writing; and the peers.yaml under which it goes on.

    A study that the home does not have is begun in it. Raises what opening a home and `enter` raise, OtherFederation
    where a study of that name has begun under another file, HomeBusy where another process works in that study.
    """
    home = Home.open(place, unlock=unlock, write=False)
    with home.choosing():
        opened = home.enter_study(_folder_of(home, given))
        try:
            agreed = enter(opened, given)
        except BaseException:
            opened.close()
            raise
    with opened:
        yield opened, agreed


def _folder_of(home: Home, given: Federation) -> str:
    held = studies_of(home)
    for study in held:
        if study.is_of(given):
            return study.home.study
    for study in held:
        if study.federation.name == given.name:
            evidence = f"both are called {given.name}; studies of one home have different names"
            raise OtherFederation(evidence=evidence, home=home.path)
    root = home.studies()[0]
    if not any(study.home.study == "" for study in held) and not SegmentFiles(root, "federation").numbers():
        return ""
    return given.name if held else ""  # a log without its file is this study's, or Logs says whose it is


def view(home: Home, read_given: Callable[[], Federation] | None) -> Home:
    """The home as the study of that file sees it, for reading; as its only one does, where nobody names a file.

    read_given   reads the file that was named; None: nobody named one

    Raises SeveralStudies where no file says which, NoSuchStudy where it is of none of them.
    """
    if read_given is None and len(home.studies()) < 2:
        return home  # whatever of its files can be read: whoever looks is told of what cannot where it is wanted
    held = studies_of(home)
    names = ", ".join(study.federation.name for study in held)
    if read_given is None and len(held) > 1:
        raise SeveralStudies(evidence=f"its studies: {names}", path=home.path)
    if read_given is None or not held:
        return held[0].home if held else home
    given = read_given()
    for study in held:
        if study.is_of(given):
            return study.home
    raise NoSuchStudy(evidence=f"its studies: {names}", source=given.source, path=home.path)


def view_or_new(home: Home, given: Federation) -> Home:
    """The home as the study of that file sees it, for reading, also where it is still to begin: then it is empty.

    A file that was edited after its study had begun is still of that study: it is what p2pfl doctor is asked about.
    """
    for study in studies_of(home):
        if study.is_of(given) or study.federation.name == given.name:
            return study.home
    return home.as_study(_folder_of(home, given))


def begin(home: Home, given: Federation) -> Home:
    """The home as the study of that file sees it, for reading; a study that it does not have is begun in it.

    What is written there before the first round belongs to that study, not to the one at the root. Raises as
    `open_study` does.
    """
    for study in studies_of(home):
        if study.is_of(given):
            return study.home
    with home.choosing():
        folder = _folder_of(home, given)
        with home.enter_study(folder) as entered:
            enter(entered, given)
    return home.as_study(folder)


class Elsewhere:
    """What the other studies of a home hold. Looked at at each question: their processes go on writing.

    read   what this process has read of their logs
    """

    def __init__(self, home: Home, read: OtherLogs) -> None:
        self._home, self._read = home, read

    def site_logs(self) -> Iterator[tuple[str, SiteIndex]]:
        """Of each other study its name and its site log. Raises LedgerDamaged and the like."""
        for study in self._studies():
            yield study.federation.name, self._read.site_index(study.home)

    def has_run(self, run: bytes) -> bool:
        """The run is one of another study's."""
        logs = ((study, self._read.log(study.home, "federation")) for study in self._studies())
        return any(run in _runs_of(study, log) for study, log in logs)

    def has_head(self, head: Head) -> bool:
        """The head is one of another study's site log."""
        logs = (self._read.log(study.home, "site") for study in self._studies())
        return any(0 < head.size <= len(log) and log.root_at(head.size) == head.root for log in logs)

    @contextmanager
    def still(self) -> Iterator[None]:
        """No other study of the home binds data to its members until the end of the block."""
        with self._home.choosing():
            yield

    def _studies(self) -> list[Study]:
        return [study for study in studies_of(self._home) if study.home.study != self._home.study]


def _runs_of(study: Study, log: Log) -> set[bytes]:
    """The runs of a study in all epochs that its ledger has reached."""
    lineage = epochs_of(study.home, log).lineage
    files = {study.federation.digest, *(lineage.digests if lineage is not None else ())}
    return {run_of(study.federation.first, file, what) for file in files for what in RUNS}
