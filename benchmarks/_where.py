"""Where a peer's processor time goes in a secure sum: by step of the protocol, and by thread for what moves bytes.

A step's work is charged to the event that sets it off. What is measured is each thread's own clock, so waiting counts
nothing, and a machine that is busy with other things changes little.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from p2pfl import messages as m
from p2pfl.home import Home
from p2pfl.node.runs.readings import Summed
from p2pfl.sharing import events as e
from p2pfl.sharing.phases.mask import Edges
from p2pfl.sharing.run import Run

STEPS: Final = (
    "quantise",
    "masks ahead",
    "mask, hash",
    "check and add what it owns",
    "check the sums",
    "tags",
    "unmask",
    "keep the sum",
    "read the sum",
    "digest of the sum",
    "votes and letters",
    "seal and fsync",
    "event loop: TLS, framing",
    "the rest",
)
_BY_MESSAGE: Final = {
    m.Root: "check and add what it owns",
    m.Chunk: "check and add what it owns",
    m.SumDigest: "check the sums",
    m.SumChunk: "check the sums",
    m.Nonce: "tags",
    m.Tags: "tags",
    m.Reveal: "unmask",
    m.BackupShare: "unmask",
}
_BY_EVENT: Final = {
    e.WordsReady: "mask, hash",  # words of floats are made as they are masked
    e.SomeSent: "mask, hash",
    e.FirstSent: "mask, hash",
    e.Applied: "digest of the sum",
}


def step_of(event: e.Event) -> str:
    """The step whose work this event sets off."""
    if isinstance(event, e.Received):
        return _BY_MESSAGE.get(type(event.letter.message), "votes and letters")
    return _BY_EVENT.get(type(event), "votes and letters")


class Where:
    """Counts in this process from its making on. Of one process, one at a time: it wraps what it watches."""

    def __init__(self, source: type[Any]) -> None:
        """`source` is the class of the sum's source: propose, words and apply are its verbs."""
        self._spent: dict[str, float] = {}
        self._begun = 0.0
        self._loop, self._in_loop = 0, 0.0  # the loop's thread, and seconds of steps that ran in it
        self._watch(Run, "handle", lambda arguments: step_of(arguments[0]))
        always = {
            (Home, "replace"): "seal and fsync",
            (Home, "begin"): "seal and fsync",
            (Edges, "masks"): "masks ahead",
            (source, "propose"): "quantise",
            (source, "words"): "quantise",
            (source, "apply"): "keep the sum",
            (Summed, "read"): "read the sum",
        }
        for (owner, verb), step in always.items():
            self._watch(owner, verb, functools.partial(_always, step))

    def _watch(self, owner: type[Any], verb: str, step: Callable[[tuple[Any, ...]], str]) -> None:
        watched = getattr(owner, verb)

        @functools.wraps(watched)  # a timeline calls a hand-over to a thread by the name of its work
        def counted(found: Any, *arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return watched(found, *arguments, **named)
            finally:
                told, spent = step(arguments), time.thread_time() - begun
                self._spent[told] = self._spent.get(told, 0.0) + spent
                if threading.get_ident() == self._loop:
                    self._in_loop += spent

        setattr(owner, verb, counted)

    def start(self) -> None:
        """Count from here. Called in the event loop's thread."""
        self._spent.clear()
        self._loop, self._in_loop = threading.get_ident(), 0.0
        self._begun = time.thread_time()

    def stop(self, cpu_s: float) -> dict[str, float]:
        """Seconds by step since `start`; `cpu_s` is what the whole process has spent since then."""
        found = {step: self._spent.get(step, 0.0) for step in STEPS}
        in_loop = time.thread_time() - self._begun
        found["event loop: TLS, framing"] = in_loop - self._in_loop  # that is charged to its step
        found["the rest"] = max(0.0, cpu_s - sum(found.values()))
        return found


def _always(step: str, arguments: tuple[Any, ...]) -> str:
    return step
