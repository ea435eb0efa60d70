"""Bytes in, frozen dataclass out, or an error that names the peer and the field. One encoding of every value.

Two forms. *Facts* are canonical JSON, for whatever is hashed, signed for years and read by strangers: ledger
records, configurations. *Messages* are msgpack arrays checked against the schema that each dataclass declares in
`messages.py`; sizes are checked before anything is unpacked, and a value that does not re-encode to the very bytes
it came from is refused, so no two byte strings mean the same message.

Nothing here trusts its input: there is no object hook, no extension type, no pickle.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgpack

Facts = dict[str, Any]
Buffer = bytes | memoryview

BULK_BYTES: Final = 1 << 16  # from here on msgpack has one form of a byte string: bin 32


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
    """What a field may hold. `check` returns the value in its decoded form or raises Malformed."""

    def check(self, value: Any, where: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes of a length from `least` to `most`, or exactly one of `exactly`."""

    most: int
    least: int = 0
    exactly: tuple[int, ...] = ()

    def check(self, value: Any, where: str) -> Buffer:
        if not isinstance(value, (bytes, memoryview)):
            raise Malformed(f"{where}: {type(value).__name__}, wanted bytes")
        size = len(value)
        if not self.least <= size <= self.most or (self.exactly and size not in self.exactly):
            raise Malformed(f"{where}: {size} bytes, wanted {self.exactly or f'{self.least} to {self.most}'}")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text of at most `most` characters; where there is a `pattern`, text that is as a whole of that form."""

    most: int
    pattern: str = ""

    def check(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > self.most:
            raise Malformed(f"{where}: wanted text of at most {self.most} characters")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise Malformed(f"{where}: text of another form")
        return value


@dataclass(frozen=True, slots=True)
class Whole:
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


@dataclass(frozen=True, slots=True)
class Many:
    """At most `most` values of one kind."""

    of: Spec
    most: int

    def check(self, value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > self.most:
            raise Malformed(f"{where}: wanted a list of at most {self.most}")
        return tuple(self.of.check(inner, f"{where}[{k}]") for k, inner in enumerate(value))


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
    """A byte string that lies in several places: packed and stored without being joined first."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(memoryview(piece).nbytes for piece in self)


def size_of(data: Buffer | Pieces) -> int:
    """Bytes of a byte string, wherever it lies."""
    return data.size if isinstance(data, Pieces) else memoryview(data).nbytes


def pack(value: Any) -> bytes:
    """msgpack of lists, ints, text and bytes (tuples become arrays)."""
    if _holds_bulk(value):
        # msgpack's packer grows its buffer as it goes and would copy bulk several times; joining copies it once.
        return b"".join(_parts(value))
    return _packed(value)


def pieces(value: Any) -> Pieces:
    """`pack`, without copying what is large: it stays where it is, and must not change while it is used here."""
    return Pieces(_parts(value))


def encodes(value: Any, data: Buffer) -> bool:
    """`data` is what `pack` makes of `value`. What is small holds no bulk, and is not searched for it."""
    return (_packed(value) if len(data) < BULK_BYTES else pack(value)) == data


def _packed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def _holds_bulk(value: Any) -> bool:
    kind = type(value)
    if kind is bytes:
        return len(value) >= BULK_BYTES
    if kind is tuple:
        for inner in value:  # noqa: SIM110 (no generator: this runs for every letter that is sealed)
            if _holds_bulk(inner):
                return True
        return False
    return kind is memoryview or kind is Pieces


def _parts(value: Any) -> Iterator[Buffer]:
    if not _holds_bulk(value):
        yield pack(value)
    elif isinstance(value, tuple) and not isinstance(value, Pieces):
        yield msgpack.Packer(buf_size=64).pack_array_header(len(value))
        yield from itertools.chain.from_iterable(map(_parts, value))
    else:
        size = size_of(value)
        # msgpack's bin 8, 16 or 32; OverflowError above 4 GiB
        head = {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}
        width = 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4
        yield head[width] + size.to_bytes(width, "big")
        yield from value if isinstance(value, Pieces) else (value,)


def unpack_views(data: Buffer, *, items: int) -> Any:
    """Undo `pack` for one array of bytes, text and whole numbers; large byte strings are views of `data`, not copies.

    Raises Malformed for anything else, also for what `unpack` would take.
    """
    view = memoryview(data).cast("B")
    value, end = _value(view, 0, items)
    if end != len(view):
        raise Malformed(f"{len(view) - end} bytes behind the value")
    return value


_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2}  # of bin 8, 16, 32 and str 8, 16
_NUMBERS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # uint 8, 16, 32, 64


def _value(view: memoryview, at: int, items: int) -> tuple[Any, int]:
    if at >= len(view):
        raise Malformed("it ends too early")
    first, at = view[at], at + 1
    if first < 0x80:
        return first, at
    if first in _NUMBERS:
        return int.from_bytes(_taken(view, at, _NUMBERS[first]), "big"), at + _NUMBERS[first]
    if 0x90 <= first <= 0x9F:
        return _array(view, at, first & 0x0F, items)
    if 0xA0 <= first <= 0xBF:
        return _text(_taken(view, at, first & 0x1F)), at + (first & 0x1F)
    if first not in _LENGTHS:
        raise Malformed(f"a byte {first:#04x} where a value begins")
    width = _LENGTHS[first]
    size = int.from_bytes(_taken(view, at, width), "big")
    held = _taken(view, at + width, size)
    if first >= 0xD9:
        return _text(held), at + width + size
    return held if size >= BULK_BYTES else bytes(held), at + width + size


def _array(view: memoryview, at: int, count: int, items: int) -> tuple[tuple[Any, ...], int]:
    if count > items:
        raise Malformed(f"an array of {count}, at most {items}")
    values = []
    for _ in range(count):
        value, at = _value(view, at, 0)  # no array in an array: bulk has none
        values.append(value)
    return tuple(values), at


def _taken(view: memoryview, at: int, size: int) -> memoryview:
    if at + size > len(view):
        raise Malformed("it ends too early")
    return view[at : at + size]


def _text(held: memoryview) -> str:
    try:
        return str(held, "utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"not text: {error.reason}") from None


def unpack(data: Buffer, *, most: int, items: int) -> Any:
    """Undo `pack` for at most `most` bytes and arrays of at most `items`. Raises Malformed."""
    if len(data) > most:
        raise Malformed(f"{len(data)} bytes, at most {most}")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            use_list=False,
            strict_map_key=True,
            max_array_len=items,
            max_map_len=0,
            max_ext_len=0,
            max_bin_len=most,
            max_str_len=min(most, 1 << 16),
        )
    except (ValueError, msgpack.UnpackException, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise Malformed(f"not msgpack of this form: {error}") from None


def read_row(
    data: Buffer, specs: tuple[tuple[str, Spec], ...], *, most: int, items: int, canonical: bool = True
) -> tuple[Any, ...]:
    """Decode one array against `specs`. Raises Malformed.

    canonical  refuse every byte string but the value's own encoding; only bulk, which a signed digest of its words
               binds, does without, since encoding half a megabyte again costs more than receiving it
    """
    value = unpack(data, most=most, items=items) if canonical else unpack_views(data, items=items)
    if not isinstance(value, tuple) or len(value) != len(specs):
        raise Malformed(f"wanted an array of {len(specs)} fields")
    checked = tuple(spec.check(inner, name) for (name, spec), inner in zip(specs, value, strict=True))
    if canonical and not encodes(checked, data):
        raise Malformed("not the shortest encoding")
    return checked
