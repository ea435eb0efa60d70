"""What the node and the process that runs the task say to each other: few kinds of small letters over one socket.

A letter is four bytes of length and a msgpack array of that length, checked against the table below at either end:
nothing that task code says is trusted, so what comes from there is bounded and has one form (codec.py). Numbers in bulk
lie in shared memory of a size that the node sets, whose descriptor goes along with the question; only the node sends
descriptors. The node reads from it as from a file, and never maps it, so nothing that happens to it there is a fault
here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl import codec
from p2pfl.codec import Malformed, Many, Raw, Row, Spec, Text, Whole
from p2pfl.files import TEXT_BYTES

LENGTH: Final = struct.Struct("<I")
MOST_ASKED: Final = 4 * TEXT_BYTES  # bytes of a letter to the task: texts of files, at most
MOST_TOLD: Final = 1 << 22  # bytes of a letter from the task
MOST_FIELDS: Final = 128  # of a letter, and of a list in it
MOST_ITEMS: Final = 1 << 12  # of an answer's lists: tensors of a model, above all
MOST_RECORDS: Final = 1 << 28
MOST_PARAMETERS: Final = 1 << 31
MOST_COLUMNS: Final = 1 << 16  # numbers of one prediction
MOST_MASK: Final = 1 << 28  # bytes of a mask's file
NAME_BYTES: Final = 32  # SHA-256 of what names a record

_TICKET: Final = Whole(1 << 53)
_PATH: Final = Text(1 << 12)

# The node's questions, by kind. "stop" has no answer.
ASKED: Final[dict[str, tuple[Spec, ...]]] = {
    "walls": (),
    # peers.yaml, its name; the task's file: its class, name and bytes; data; column map: 1 if there is one, its bytes,
    # its name; device; 1 if labels are needed
    "open": (
        *(Raw(TEXT_BYTES), _PATH, Text(200), _PATH, Raw(TEXT_BYTES), _PATH),
        *(Whole(1), Raw(TEXT_BYTES), _PATH, Text(100), Whole(1)),
    ),
    "layout": (),
    "owners": (),  # SHA-256 of whose each record is, (N, 32) bytes, into the buffer
    "names": (),  # what names each record, and each patient where there are any: 32 bytes each
    "split": (),  # (N,) bytes in the buffer: of each record TRAINED, HELD or LEFT_OUT
    "try_records": (Whole(MOST_RECORDS), Whole(MOST_RECORDS)),  # the first of them, how many
    "steps": (Whole(1 << 40),),  # of a pass, where they are not those of peers.yaml
    "initial": (Raw(32, 32),),
    "inputs": (Whole(1 << 16), Whole(1 << 32)),
    # charge, seed, at once, rounds before; behind the model in the buffer the carriers of its subspace, if it has one
    "train": (Whole(1 << 53), Raw(32, 32), Whole(1 << 16), Whole(1 << 32)),
    "evaluate": (),
    "figures": (Raw(1 << 20), Raw(8, 8)),  # counts, and the noise in each as a float64
    "predict": (),
    "predictions": (),
    "mask": (
        Whole(MOST_RECORDS),
    ),  # of that record, once predictions are made; its bytes come into the buffer of the next
    "mask_bytes": (),
    "stop": (),
}
_NOTHING: Final[tuple[Spec, ...]] = ()
_LAYOUT: Final = Many(Row((Text(500), Many(Whole(MOST_PARAMETERS), 16))), MOST_ITEMS)
_SHAPE: Final = Many(Whole(MOST_PARAMETERS), 16)

# What each question is answered with, when it is answered well.
ANSWERED: Final[dict[str, tuple[Spec, ...]]] = {
    "walls": (Whole(1), Whole(1)),  # around files; around system calls
    "open": (Whole(MOST_RECORDS), Whole(1)),  # records; 1 where they have patients
    "layout": (_LAYOUT,),
    "owners": _NOTHING,
    "names": _NOTHING,
    # name, tensors, digest of what does not train, counts, notices, expected batch as text, input's and label's shape,
    # units of privacy that train, counts that one moves
    "split": (
        Text(200),
        _LAYOUT,
        Raw(32, 32),
        Whole(1 << 16),
        Many(Text(1000), 1000),
        Text(40),
        _SHAPE,
        _SHAPE,
        Whole(MOST_RECORDS),
        Whole(1 << 16),
    ),
    "try_records": _NOTHING,
    "steps": _NOTHING,
    "initial": _NOTHING,
    "inputs": (Raw(32),),
    "train": _NOTHING,
    "evaluate": (Raw(1 << 20),),
    "figures": (Many(Row((Text(41, r"[a-z][a-z0-9_]{0,40}"), Raw(24, 24))), 256),),
    # numbers of each record, their names, 1 where each prediction is a mask that can be written
    "predict": (Whole(MOST_COLUMNS), Many(Text(200), 1 << 12), Whole(1)),
    "predictions": _NOTHING,
    "mask": (Text(255), Whole(MOST_MASK)),  # name of the record's file, bytes of the mask
    "mask_bytes": _NOTHING,
}
# What comes from the task: the answer, a step that is done, or what went wrong (code, evidence, fields).
TOLD: Final[dict[str, tuple[Spec, ...]]] = {
    "done": (Raw(MOST_TOLD),),
    "step": (Whole(1 << 40), Whole(1 << 40)),
    "fault": (Text(20), Text(1 << 14), Many(Row((Text(40), Text(1 << 12))), 20)),
}
Letter = tuple[int, str, tuple[Any, ...]]  # ticket, kind, fields


def read_letter(data: bytes, kinds: dict[str, tuple[Spec, ...]], most: int) -> Letter:
    """Decode a letter of one of `kinds`. Raises Malformed."""
    whole = codec.unpack(data, most=most, items=MOST_FIELDS)
    if not isinstance(whole, tuple) or len(whole) < 2 or not isinstance(whole[1], str) or whole[1] not in kinds:
        raise Malformed("no letter of this wire")
    ticket, kind, *fields = whole
    checked = Row(kinds[kind]).check(fields, kind)
    return _TICKET.check(ticket, "ticket"), kind, checked


def read_fields(data: bytes, kind: str) -> tuple[Any, ...]:
    """The fields of an answer to a question of that kind. Raises Malformed."""
    found: tuple[Any, ...] = Row(ANSWERED[kind]).check(codec.unpack(data, most=MOST_TOLD, items=MOST_ITEMS), kind)
    return found


class Wire:
    """One end of the socket. Any thread may send; one reads."""

    def __init__(self, end: socket.socket, reads: dict[str, tuple[Spec, ...]], most: int) -> None:
        self._end, self._reads, self._most = end, reads, most
        self._sending = threading.Lock()

    def send(self, ticket: int, kind: str, *fields: Any, descriptor: int | None = None) -> None:
        """Send a letter, and a descriptor with it. Raises OSError when nobody reads any more."""
        body = codec.pack((ticket, kind, *fields))
        with self._sending:
            if descriptor is None:
                self._end.sendall(LENGTH.pack(len(body)))
            else:
                socket.send_fds(self._end, [LENGTH.pack(len(body))], [descriptor])
            self._end.sendall(body)

    def receive(self) -> tuple[Letter, int | None] | None:
        """The next letter, and the descriptor that came with it, where any may come; None at the end.

        Raises Malformed; OSError.
        """
        descriptors: list[int] = []
        head = self._exactly(LENGTH.size, descriptors)
        if head is None:
            return None
        size = LENGTH.unpack(head)[0]
        if size > self._most:
            raise Malformed(f"a letter of {size} bytes, at most {self._most}")
        body = self._exactly(size, descriptors)
        if body is None:
            return None
        return read_letter(body, self._reads, self._most), descriptors[0] if descriptors else None

    def _exactly(self, size: int, descriptors: list[int]) -> bytes | None:
        held = bytearray()
        while len(held) < size:
            if self._reads is ASKED:
                part, came, _, _ = socket.recv_fds(self._end, size - len(held), 1)
                descriptors += came
            else:  # a descriptor that the task sends is dropped by the system
                part = self._end.recv(min(size - len(held), 1 << 16))
            if not part:
                return None
            held += part
        return bytes(held)

    def close(self) -> None:
        """Close it; whoever reads comes to the end."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


class SharedBuffer:
    """Memory of a fixed size that two processes share, as a file without a name."""

    def __init__(self, size: int) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("p2pfl", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        os.ftruncate(self.descriptor, size)
        self.size = size

    def __enter__(self) -> SharedBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write(self, array: NDArray[Any], start: int = 0) -> None:
        """Write the array's bytes, from byte `start` on; they fit."""
        view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        at = 0
        while at < len(view):
            at += os.pwrite(self.descriptor, view[at:], start + at)

    def read(self, dtype: str, count: int | None = None) -> NDArray[Any]:
        """Its first `count` numbers, or all of it: a copy that nobody else can change.    (count,)

        Raises Malformed if it has become shorter.
        """
        found = np.empty(self.size // np.dtype(dtype).itemsize if count is None else count, dtype)
        view, at = found.view(np.uint8).data, 0
        while at < len(view):
            count = os.preadv(self.descriptor, [view[at:]], at)
            if not count:
                raise Malformed(f"{at} bytes of shared memory, wanted {len(view)}")
            at += count
        return found
