"""What a canary looks like wherever it may have got to, and what a process did, as `strace` saw it."""

from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*?)(?:\) += (-?\d+).*| <unfinished \.\.\.>)?$")
NETWORK = ("socket", "connect", "bind", "listen", "accept", "accept4")
STARTS = ("clone", "clone3", "fork", "vfork")
TRACED = ",".join(("%network", "execve", "openat", "open", "creat", *STARTS))
PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


def forms_of_text(text: str) -> Iterator[bytes]:
    """UTF-8 and UTF-16, in hex of either case, and in base64 wherever it begins."""
    for raw in (text.encode(), text.encode("utf-16-le")):
        yield from forms_of_bytes(raw)


def forms_of_bytes(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for before in range(3):  # what stands beside it changes the first and the last characters
        coded = base64.b64encode(bytes(before) + raw)
        inside = coded[-(-8 * before // 6) : 8 * (before + len(raw)) // 6]
        yield inside
        yield inside.replace(b"+", b"-").replace(b"/", b"_")


def forms_of_numbers(*values: float) -> Iterator[bytes]:
    """As people write each, and as machines hold them; float32 only side by side, since four bytes may be anything."""
    for value in values:
        yield from forms_of_text(f"{value:.7f}")
        for order in "<>":
            yield from forms_of_bytes(struct.pack(f"{order}d", value))
    if len(values) > 1:
        for order in "<>":
            yield from forms_of_bytes(struct.pack(f"{order}{len(values)}f", *values))


def found_in(texts: Mapping[str, bytes], canaries: Mapping[str, Iterable[bytes]]) -> list[str]:
    """Where which canary is, in whatever form."""
    wanted = [(name, form) for name, forms in canaries.items() for form in set(forms)]
    assert all(len(form) >= 7 for _, form in wanted), "a shorter one is found anywhere"
    return sorted({f"{name} in {place}" for place, text in texts.items() for name, form in wanted if form in text})


def files_below(folder: Path, but: Path) -> dict[str, bytes]:
    """What lies in the files of a folder, and how they are called, without what lies below `but`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_relative_to(but):
            held = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = str(path.relative_to(folder)).encode() + b"\n" + held
    return found


def can_trace() -> str:
    """Why no process can be traced here; empty where it can."""
    if shutil.which("strace") is None:
        return "no strace on this machine"
    tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine forbids ptrace"


@dataclass
class Traced:
    """The processes of a trace: those of tasks, with all their threads, and the others.

    sockets   of each kind of process, the calls of NETWORK that went well
    written   the paths that it opened for writing
    """

    tasks: set[str] = field(default_factory=set)
    sockets: dict[bool, list[str]] = field(default_factory=lambda: {True: [], False: []})
    written: dict[bool, set[str]] = field(default_factory=lambda: {True: set(), False: set()})
    calls: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    @classmethod
    def of(cls, lines: Iterable[str]) -> Traced:
        """`strace -f -s 4 -e trace=TRACED`, line by line."""
        found, unfinished = cls(), dict[str, str]()
        for line in lines:
            match = CALL.match(line)
            if match is None:
                continue
            thread, call, told, result = match.groups()
            if "resumed>" in line:
                told = unfinished.pop(thread, "") + told
            elif result is None:
                unfinished[thread] = told
            if call == "execve" and '"-I", "-u", "-c"' in told:  # how a task's process is started, and nothing else
                found.tasks.add(thread)
            if result is None or int(result) < 0:
                continue
            is_task = thread in found.tasks
            found.calls[is_task] += 1
            if call in STARTS and is_task:
                found.tasks.add(result)
            if call in NETWORK:
                found.sockets[is_task].append(line)
            if call == "creat" or (call in ("open", "openat") and ("O_WRONLY" in told or "O_RDWR" in told)):
                named = PATH.search(told)
                found.written[is_task].add(named[1] if named else told)
        return found
