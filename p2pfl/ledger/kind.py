"""What a kind of entry is made of: a frozen dataclass, whose fields are the keys of its record, each with a form.

A form checks the value in a record, and turns it into a Python value and back. The kinds themselves are in
`federation_kinds.py` and `site_kinds.py`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeVar

from p2pfl.codec import Facts, facts
from p2pfl.home.segments import LogName
from p2pfl.roster import NAME

HEX16: Final = re.compile(r"[0-9a-f]{32}")
HEX32: Final = re.compile(r"[0-9a-f]{64}")
REAL: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]{1,3})?|inf)")
MOST_TEXT: Final = 200  # characters


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """`fits` judges what a record holds; `to_record` makes that of a Python value, and `of_record` the value of it."""

    fits: Callable[[Any], bool]
    to_record: Callable[[Any], Any] = _same
    of_record: Callable[[Any], Any] = _same


def holds(form: Form) -> Any:
    """Declare a field of an entry and its form."""
    return dataclasses.field(metadata={"form": form})


def may_hold(form: Form) -> Any:
    """Declare a field that only some entries of the kind have. None: the record does not have it."""
    return dataclasses.field(metadata={"form": form}, default=None)


def drawn(form: Form) -> Any:
    """Declare a field of random bytes, which whoever writes the entry draws: one without them has no record."""
    return dataclasses.field(metadata={"form": form}, default=b"")


def forms_of(kind: type[Any]) -> tuple[dict[str, Form], frozenset[str]]:
    """Of an entry's class the form of each field, by name, and the fields that a record may lack.

    Raises TypeError for a field without a form.
    """
    found, optional = dict[str, Form](), set[str]()
    for one in dataclasses.fields(kind):
        if "form" not in one.metadata:
            raise TypeError(f"{kind.__name__}.{one.name} has no form")
        found[one.name] = one.metadata["form"]
        optional |= {one.name} if one.default is None else set()
    return found, frozenset(optional)


# ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and HEX32.fullmatch(value) is not None


def _is_salt(value: Any) -> bool:
    return isinstance(value, str) and HEX16.fullmatch(value) is not None


def _is_act(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"command", "options"}
        and LINE.fits(value["command"])
        and MAP.fits(value["options"])
    )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _is_real(value: Any) -> bool:
    return isinstance(value, str) and REAL.fullmatch(value) is not None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_name(value[0]) and _is_hash(value[1])


def _of_hex(value: str) -> bytes:
    return bytes.fromhex(value)


def by_name(form: Form) -> Form:
    """By site, what `form` takes."""

    def each(turn: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        return lambda value: {name: turn(one) for name, one in value.items()}

    return Form(
        lambda value: isinstance(value, dict) and all(_is_name(name) and form.fits(one) for name, one in value.items()),
        each(form.to_record),
        each(form.of_record),
    )


def or_null(form: Form) -> Form:
    """Null, or what `form` takes."""
    return Form(
        lambda value: value is None or form.fits(value),
        lambda value: None if value is None else form.to_record(value),
        lambda value: None if value is None else form.of_record(value),
    )


def one_of(*words: str) -> Form:
    """One of these words."""
    return Form(lambda value: isinstance(value, str) and value in words)


HASH: Final = Form(_is_hash, bytes.hex, _of_hex)  # 32 bytes; lowercase hex in a record
SALT: Final = Form(_is_salt, bytes.hex, _of_hex)  # 16 bytes; lowercase hex in a record
WHOLE: Final = Form(lambda value: type(value) is int and value >= 0)
YES_OR_NO: Final = Form(lambda value: isinstance(value, bool))
LINE: Final = Form(lambda value: isinstance(value, str) and len(value) <= MOST_TEXT and value.isprintable())
TEXT: Final = Form(lambda value: isinstance(value, str))  # of any length, with line breaks
REAL_TEXT: Final = Form(_is_real)  # a decimal number; text, since a record holds no float
SPENT: Final = Form(lambda value: value == "" or _is_real(value))  # ε; empty where a round charges nothing
SITE: Final = Form(_is_name)
SITES: Final = Form(lambda value: isinstance(value, list) and all(map(_is_name, value)), list, tuple)
PEERS: Final = Form(  # names and public keys, in order
    lambda value: isinstance(value, list) and len(value) > 0 and all(map(_is_pair, value)),
    lambda value: [[name, key.hex()] for name, key in value],
    lambda value: tuple((name, _of_hex(key)) for name, key in value),
)
MAP: Final = Form(lambda value: isinstance(value, dict), dict)  # whose keys are its writer's matter
ACTS: Final = Form(  # what people did: command and options of each
    lambda value: isinstance(value, list) and all(map(_is_act, value)),
    lambda value: [dict(one) for one in value],
    tuple,
)


# ── kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Kind:
    """Base of all kinds. `kind` is the word in the record, `in_log` the log that it belongs to."""

    __slots__ = ()
    kind: ClassVar[str]
    in_log: ClassVar[LogName]
    forms: ClassVar[Mapping[str, Form]]
    optional: ClassVar[frozenset[str]]

    @property
    def record(self) -> bytes:
        """The entry's bytes. Raises ValueError, with the field, where a reader would refuse them."""
        held = {name: getattr(self, name) for name in self.forms}
        written = {
            name: self.forms[name].to_record(value)
            for name, value in held.items()
            if not (value is None and name in self.optional)
        }
        self.check_facts({"kind": self.kind, **written})
        return facts({"kind": self.kind, **written})

    @property
    def line(self) -> str:
        """What happened, in one line for a person."""
        raise NotImplementedError

    @classmethod
    def check_facts(cls, held: Facts) -> None:
        """Raises ValueError that names the fields that are missing, too many, or hold what they must not."""
        odd = (set(held) ^ {"kind", *cls.forms}) - (cls.optional - set(held))
        if odd:
            raise ValueError(f"{cls.kind}: {', '.join(sorted(odd))} is missing, or does not belong there")
        for name, form in cls.forms.items():
            if name in held and not form.fits(held[name]):
                raise ValueError(f"{cls.kind}: {name} does not hold what it must")

    @classmethod
    def of_facts(cls, held: Facts) -> Self:
        """The entry that these facts state. Raises ValueError as `check_facts` does."""
        cls.check_facts(held)
        return cls(**{name: form.of_record(held[name]) for name, form in cls.forms.items() if name in held})


KINDS: Final[dict[str, type[Kind]]] = {}
K = TypeVar("K", bound=type[Kind])


def entry_kind(kind: str, log: LogName) -> Callable[[K], K]:
    """Register a class under the word in its records. Raises TypeError for a field without a form, or a word twice."""

    def register(cls: K) -> K:
        cls.kind, cls.in_log = kind, log
        cls.forms, cls.optional = forms_of(cls)
        if KINDS.setdefault(kind, cls) is not cls:
            raise TypeError(f"{kind} is a kind already")
        return cls

    return register


def short(value: bytes) -> str:
    """A digest as lines show it: its first 12 hex digits."""
    return value.hex()[:12]
