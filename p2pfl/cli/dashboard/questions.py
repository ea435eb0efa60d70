"""Questions that were proposed to this site, in files that lie in one folder: those that nobody here has approved yet.

A proposal is passed on as a file (question_file.py), by mail or on a share, and anybody may have written what lies
there. So only plain files of few bytes are read, few of them, and each again only when it has changed; what is shown
of one was parsed strictly, and carries the signature of a member under the peers.yaml that this home agreed to.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2pfl.errors import P2PFLError
from p2pfl.federation import Federation
from p2pfl.files import read_file
from p2pfl.home import Home
from p2pfl.node.question_file import ProposedQuestion, called, columns_in, parse
from p2pfl.node.questions import approvals, digest_of

ENDING: Final = ".yaml"
BEGINS: Final = b"# p2pfl: a question"  # as `stats propose` writes it; an unfit one is shown, too
MOST_FILES: Final = 64
MOST_NAMES: Final = 4096  # of a folder, before its files are sorted
MOST_BYTES: Final = 1 << 14
MOST_SHOWN: Final = 2000  # characters of one question

Row = dict[str, str]
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file held: a question, or that it begins as one and is none that fits here."""

    stamp: _Stamp
    question: ProposedQuestion | None
    unfit: bool


@dataclass
class ProposedHere:
    """The proposals in `folder`. peers_file: what the command is to name; None: peers.yaml, which it takes anyway."""

    folder: Path
    peers_file: Path | None = None
    _held: dict[str, _Read] = field(default_factory=dict)
    _under: bytes = b""  # the digest of the peers.yaml that they were read under

    def waiting(self, home: Home, federation: Federation) -> list[Row]:
        """What each asks, who proposed it, and the command that approves it; those that are approved are left out."""
        if self._under != federation.digest:
            self._held, self._under = {}, federation.digest
        names = dict(self._files())
        self._held = {name: self._read(name, stamp, federation) for name, stamp in names.items()}
        said, found = approvals(home), list[Row]()
        standing = said.standing_in(federation)
        seen = set(said.questions)
        for name, one in self._held.items():
            if one.unfit:
                what = f"{name} holds no question that can be asked here: it is of another peers.yaml, or was changed"
                found.append({"what": what, "command": self._command(name, home)})
            if one.question is None or one.question.told["kind"] in standing:
                continue
            digest = digest_of(federation, one.question.told)
            if digest not in seen:
                seen.add(digest)
                found.append({"what": _what(one.question, digest), "command": self._command(name, home)})
        return found

    def _files(self) -> Iterator[tuple[str, _Stamp]]:
        """Plain files of few bytes, by name; no link, device or pipe is followed or opened."""
        try:
            with os.scandir(self.folder) as entries:
                names = [one.name for one, _ in zip(entries, range(MOST_NAMES), strict=False)]
        except OSError:
            return
        left = MOST_FILES
        for name in sorted(names):
            if left == 0 or not name.endswith(ENDING) or not name.isprintable():
                continue
            try:
                held = os.lstat(self.folder / name)
            except OSError:
                continue
            if stat.S_ISREG(held.st_mode) and held.st_size <= MOST_BYTES:
                left -= 1
                yield name, (held.st_ino, held.st_size, held.st_mtime_ns)

    def _read(self, name: str, stamp: _Stamp, federation: Federation) -> _Read:
        before = self._held.get(name)
        if before is not None and before.stamp == stamp:
            return before
        try:
            raw = read_file(self.folder / name, MOST_BYTES)
        except OSError:
            return _Read(stamp, None, unfit=False)
        try:
            return _Read(stamp, parse(raw, name, federation), unfit=False)
        except (P2PFLError, ValueError):
            return _Read(stamp, None, unfit=raw.startswith(BEGINS))

    def _command(self, name: str, home: Home) -> str:
        file = str(self.folder / name)
        words = ["p2pfl", "stats", "approve", as_argument(file)]
        return shlex.join([*words, *self.where(home)])

    def where(self, home: Home) -> list[str]:
        """The options that say which study of which home."""
        study = ["--peers", str(self.peers_file)] if self.peers_file is not None else []
        return [*study, "--home", str(home.path)]


def _what(question: ProposedQuestion, digest: bytes) -> str:
    """Who asks, what, over which columns, and every parameter as it is approved."""
    columns = ", ".join(columns_in(question.told)) or "no column"
    terms = json.dumps({key: value for key, value in question.told.items() if key != "kind"}, ensure_ascii=False)
    text = f"{question.by} proposes {called(question.told)}. Columns: {columns}. Asked: {terms}"
    short = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… (the command shows all of it)"
    return f"{short}. Question {digest.hex()[:16]}"


def as_argument(file: str) -> str:
    """The file's name for a command: one that begins like an option is named as a file."""
    return f"./{file}" if file.startswith("-") else file
