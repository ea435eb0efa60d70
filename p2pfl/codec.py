"""Bytes in, frozen dataclass out, or an error that names the peer and the field. One encoding of every value.

Two forms. *Facts* are canonical JSON, for whatever is hashed, signed for years and read by strangers: ledger
records, configurations. *Messages* are msgpack arrays, read along the schema that each dataclass declares in
`messages/`: an array is entered only where the schema has one, and only when its length is within the schema's limit,
so bytes cost no more than the values that the schema allows. A value that does not re-encode to the very bytes it came
from is refused, so no two byte strings mean the same message. Bulk is not msgpack: it follows a packed head as raw
bytes (`with_tail`, `split_tail`), and is copied neither on the way out nor on the way in.

Nothing here trusts its input: there is no object hook, no extension type, no pickle.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgpack

Facts = dict[str, Any]
Buffer = bytes | memoryview

PACK_BYTES: Final = 1 << 10  # initial size of the packer's buffer, which grows; most letters are small


class Malformed(ValueError):
    """Input that is not the one encoding of a value of its schema; the text names the field and what is wrong."""


# ── facts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def facts(value: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of `value`: sorted keys, no blanks, ASCII.

    Values are str, int, bool, None, lists and string-keyed maps of those. Floats are refused, since two machines may
    print one differently: reals travel as decimal strings, bytes as lowercase hex. Raises Malformed.
    """
    _only_exact(value, "record")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def read_facts(data: bytes, most: int = 1 << 20) -> Facts:
    """Return the map that `facts` encoded; any other spelling of it is refused. Raises Malformed."""
    if len(data) > most:
        raise Malformed(f"record of {len(data)} bytes, at most {most}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"record is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Malformed("record is not a map")
    if facts(value) != data:
        raise Malformed("record is not in canonical form")
    return value


def _only_exact(value: object, where: str, depth: int = 0) -> None:
    if depth > 8:
        raise Malformed(f"{where}: nested too deep")
    if isinstance(value, str) and not _is_unicode(value):
        raise Malformed(f"{where}: half of a surrogate pair is not text")
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str) or not _is_unicode(name):
                raise Malformed(f"{where}: key {name!r} is not text")
            _only_exact(inner, f"{where}.{name}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            _only_exact(inner, f"{where}[{place}]", depth + 1)
    else:
        raise Malformed(f"{where}: {type(value).__name__} is not exact; write it as text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ── schema ────────────────────────────────────────────────────────────────────────────────────────────────────


class Spec(Protocol):
    """What a field may hold. Both return the value in its decoded form or raise Malformed."""

    def check(self, value: Any, where: str) -> Any:
        """A value that is unpacked already."""

    def read(self, reader: msgpack.Unpacker, where: str) -> Any:
        """The next value of `reader`, which unpacks no array (`read_row`)."""


class _Leaf:
    """A field that is no array."""

    __slots__ = ()

    def check(self, value: Any, where: str) -> Any:
        raise NotImplementedError

    def read(self, reader: msgpack.Unpacker, where: str) -> Any:
        return self.check(reader.unpack(), where)


@dataclass(frozen=True, slots=True)
class Raw(_Leaf):
    """Bytes of a length from `least` to `most`, or exactly one of `exactly`."""

    most: int
    least: int = 0
    exactly: tuple[int, ...] = ()

    def check(self, value: Any, where: str) -> bytes:
        if not isinstance(value, bytes):
            raise Malformed(f"{where}: {type(value).__name__}, wanted bytes")
        size = len(value)
        if not self.least <= size <= self.most or (self.exactly and size not in self.exactly):
            raise Malformed(f"{where}: {size} bytes, wanted {self.exactly or f'{self.least} to {self.most}'}")
        return value


@dataclass(frozen=True, slots=True)
class Tail(_Leaf):
    """From `least` to `most` bytes that follow the row instead of standing in it, so that nobody copies them.

    In their place the row holds their number, which is what `check` takes and returns.
    """

    most: int
    least: int = 0

    def check(self, value: Any, where: str) -> int:
        if type(value) is not int or not self.least <= value <= self.most:
            raise Malformed(f"{where}: {str(value)[:20]} bytes, wanted {self.least} to {self.most}")
        return value


@dataclass(frozen=True, slots=True)
class Text(_Leaf):
    """UTF-8 text of at most `most` characters, which matches `pattern` as a whole where one is given."""

    most: int
    pattern: str = ""

    def check(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > self.most:
            raise Malformed(f"{where}: wanted text of at most {self.most} characters")
        if self.pattern and not _form(self.pattern).fullmatch(value):
            raise Malformed(f"{where}: text of another form")
        return value


@functools.cache
def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@dataclass(frozen=True, slots=True)
class Whole(_Leaf):
    """An integer from 0 to `most`."""

    most: int

    def check(self, value: Any, where: str) -> int:
        if type(value) is not int or not 0 <= value <= self.most:  # bool is an int; it is not a Whole
            raise Malformed(f"{where}: wanted a whole number up to {self.most}")
        return value


@dataclass(frozen=True, slots=True)
class Row:
    """A fixed tuple of differing fields."""

    of: tuple[Spec, ...]

    def check(self, value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) != len(self.of):
            raise Malformed(f"{where}: wanted {len(self.of)} fields")
        pairs = enumerate(zip(self.of, value, strict=True))
        return tuple(spec.check(inner, f"{where}.{place}") for place, (spec, inner) in pairs)

    def read(self, reader: msgpack.Unpacker, where: str) -> tuple[Any, ...]:
        if reader.read_array_header() != len(self.of):
            raise Malformed(f"{where}: wanted {len(self.of)} fields")
        return tuple([spec.read(reader, f"{where}.{place}") for place, spec in enumerate(self.of)])


@dataclass(frozen=True, slots=True)
class Many:
    """At most `most` values of one kind."""

    of: Spec
    most: int

    def check(self, value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > self.most:
            raise Malformed(f"{where}: wanted a list of at most {self.most}")
        return tuple(self.of.check(inner, f"{where}[{k}]") for k, inner in enumerate(value))

    def read(self, reader: msgpack.Unpacker, where: str) -> tuple[Any, ...]:
        count = reader.read_array_header()
        if count > self.most:
            raise Malformed(f"{where}: wanted a list of at most {self.most}")
        return tuple([self.of.read(reader, f"{where}[{k}]") for k in range(count)])


def limited(spec: Spec) -> Any:
    """Declare a message field and its limit."""
    return dataclasses.field(metadata={"spec": spec})


def specs_of(kind: type[Any]) -> tuple[tuple[str, Spec], ...]:
    """The fields of a message class with their limits, in wire order. A field without a limit raises TypeError."""
    found = []
    for entry in dataclasses.fields(kind):
        if "spec" not in entry.metadata:
            raise TypeError(f"{kind.__name__}.{entry.name} has no limit")
        found.append((entry.name, entry.metadata["spec"]))
    return tuple(found)


class Pieces(tuple[Buffer, ...]):
    """A byte string in several pieces, sent and stored without being joined first."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum([len(piece) if isinstance(piece, bytes) else piece.nbytes for piece in self])


def size_of(data: Buffer | Pieces) -> int:
    """Length in bytes of a byte string, in one piece or in several."""
    if isinstance(data, bytes):
        return len(data)
    return data.size if isinstance(data, Pieces) else memoryview(data).nbytes


def pack(value: Any) -> bytes:
    """msgpack of lists, ints, text and bytes (tuples become arrays)."""
    packed: bytes = msgpack.packb(value, use_bin_type=True, buf_size=PACK_BYTES)
    return packed


def with_tail(head: Any, *tail: Buffer) -> Pieces:
    """`head` packed, then the bytes of `tail`: not copied, so they must not change while the result is in use."""
    return Pieces((pack(head), *tail))


def unpack(data: Buffer, *, most: int, items: int) -> Any:
    """Undo `pack` for at most `most` bytes and arrays of at most `items`. Raises Malformed."""
    if len(data) > most:
        raise Malformed(f"{len(data)} bytes, at most {most}")
    try:
        return msgpack.unpackb(data, **_limits(most, items))
    except _REFUSALS as error:
        raise Malformed(f"not msgpack of this form: {error}") from None


def split_tail(data: Buffer, *, most: int, items: int) -> tuple[Any, memoryview]:
    """Undo `with_tail`: the head, and a view of everything behind it.

    The head is one msgpack value of at most `most` bytes, with arrays of at most `items`, in its one encoding.
    Raises Malformed.
    """
    view = memoryview(data).cast("B")
    reader = msgpack.Unpacker(max_buffer_size=most, **_limits(most, items))
    reader.feed(view[:most])
    try:
        head = reader.unpack()
    except msgpack.OutOfData:
        raise Malformed(f"a head that ends too early, or not within {most} bytes") from None
    except _REFUSALS as error:
        raise Malformed(f"not msgpack of this form: {error}") from None
    size = reader.tell()
    if pack(head) != view[:size]:
        raise Malformed("not the shortest encoding")
    return head, view[size:]


_REFUSALS: Final = (ValueError, msgpack.UnpackException, UnicodeDecodeError, RecursionError, TypeError)


def _limits(most: int, items: int) -> dict[str, Any]:
    return {
        "raw": False,
        "use_list": False,
        "strict_map_key": True,
        "max_array_len": items,
        "max_map_len": 0,
        "max_ext_len": 0,
        "max_bin_len": most,
        "max_str_len": min(most, 1 << 16),
    }


def read_row(data: Buffer, specs: tuple[tuple[str, Spec], ...], *, most: int) -> tuple[Any, ...]:
    """Decode one array of at most `most` bytes along `specs`. Raises Malformed, also for another encoding of it.

    msgpack itself unpacks no array here: each is entered by the spec that allows it. Arrays that no spec allows would
    else cost fifty times their bytes, and seconds, before anything could refuse them.
    """
    size = len(data)
    if size > most:
        raise Malformed(f"{size} bytes, at most {most}")
    reader = msgpack.Unpacker(read_size=size or 1, max_buffer_size=size or 1, **_limits(most, 0))
    reader.feed(data)
    found: list[Any] = []
    name = f"array of {len(specs)} fields"
    try:
        if reader.read_array_header() != len(specs):
            raise Malformed(f"wanted an array of {len(specs)} fields")
        for name, spec in specs:
            found.append(spec.read(reader, name))
    except Malformed:
        raise
    except _REFUSALS as error:
        raise Malformed(f"{name}: not msgpack of this form: {error or 'it ends too early'}") from None
    del reader  # and its copy of the bytes: two more at once take the allocator several times as long
    row = tuple(found)
    if pack(row) != data:
        raise Malformed("not the shortest encoding")
    return row
