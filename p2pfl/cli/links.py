"""Links as people and machines read them: one row each, the worst first, and under it what to do. Pure.

Keys are a contract: documented in docs/reference/json.md, tested, only ever added to.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from p2pfl.cli import output
from p2pfl.errors import P2PFLError

if TYPE_CHECKING:
    from p2pfl.mesh.events import TlsFacts
    from p2pfl.mesh.probe.diagnosis import AddressTrial, Diagnosis, RelayTrial
    from p2pfl.mesh.probe.wire import Dialed

WIDTH: Final = 80
HEADS: Final = ("site", "path", "there", "back", "rtt", "bit/s up", "down", "clock")
RIGHT: Final = (4, 5, 6, 7)
WHOLE: Final = 64
NAME: Final = 15  # characters of a site's name, and
PATH: Final = 10  # of a path, that a row shows where the whole would not fit
DIFF_LINES: Final = 12
CELLS: Final = {"ok": "ok", "link": "link", "no": "NO", "stalls": "STALLS", "none": "-", "unknown": "?"}


def link_facts(found: Diagnosis, diff: str | None = None) -> dict[str, Any]:
    """One link of `doctor --json`; the first four keys are those of `join --check --json`."""
    facts, clock = found.facts, found.clock
    errors = [_as_told(error, found) for error in found.errors]
    return {
        "peer": found.peer,
        "up": found.works,
        "tls": tls_facts(found.tls),
        "error": errors[0] if errors else None,
        "path": found.path.kind,
        "via": found.path.via or None,
        "relay": _through(found.through),
        "there": found.there,
        "back": found.back,
        "addresses": [_address_facts(way) for way in found.ways],
        "dialed_back": [_dialed_facts(one) for one in found.dialed],
        "round_trip_ms": _ms(found.round_trip_s) if found.round_trip_s else None,
        "clock_ahead_s": round(clock.ahead_s, 3) if clock else None,
        "up_bit_s": round(8 * found.to_bytes_s) if found.to_bytes_s else None,
        "down_bit_s": round(8 * found.from_bytes_s) if found.from_bytes_s else None,
        "software": facts.software if facts else None,
        "role": facts.role if facts else None,
        "federation_digest": facts.federation_digest.hex() if facts else None,
        "same_peers_yaml": found.theirs is None if facts else None,
        "diff": diff,
        "errors": errors,
        "notes": list(found.notes),
    }


def _address_facts(way: AddressTrial) -> dict[str, Any]:
    """One address of the peer that was tried."""
    return {
        "address": str(way.address),
        "ok": way.error is None,
        "ip": way.ip or None,
        "segment_bytes": way.segment or None,
        "tcp_ms": _ms(way.tcp_s),
        "admitted_ms": _ms(way.admitted_s),
        "path": "proxy" if way.proxied else "direct",
        "why": way.why or None,
        "error": way.error.as_json() if way.error else None,
    }


def _dialed_facts(one: Dialed) -> dict[str, Any]:
    """One address of this site that the peer tried."""
    return {
        "address": one.address,
        "ok": not one.code,
        "ms": one.ms,
        "code": one.code or None,
        "happened": one.happened or None,
        "evidence": one.evidence or None,
    }


def _through(through: RelayTrial | None) -> dict[str, Any] | None:
    """The way through a third site, where it was tried."""
    if through is None:
        return None
    return {
        "via": through.via,
        "there": through.there,
        "back": through.back,
        "round_trip_ms": _ms(through.round_trip_s or 0.0),
    }


def _as_told(error: P2PFLError, found: Diagnosis) -> dict[str, object]:
    """An error for a row of doctor's own table: in place of `p2pfl doctor`, what else shows who is there."""
    facts = error.as_json()
    address = next((way.address for way in found.ways if way.error is error), None)
    if facts["try"] == "p2pfl doctor":
        facts["try"] = f"openssl s_client -connect {address} -tls1_3 </dev/null" if address else "p2pfl peers show"
    return facts


def tls_facts(facts: TlsFacts | None) -> dict[str, str] | None:
    return {"version": facts.version, "cipher": facts.cipher, "group": facts.group} if facts else None


def _ms(seconds: float) -> float | None:
    return round(1000 * seconds, 2) if seconds else None


# ── for people ────────────────────────────────────────────────────────────────────────────────────────────────


def link_lines(links: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table: at most 80 columns wide, readable without colour; what fails comes first, with what to try."""
    ordered = sorted(links, key=lambda link: (not link["errors"], link["up"], link["there"] == "ok", link["peer"]))
    head, *rows = _table(ordered)
    lines, said = [f"  {head}"], set[str]()
    for row, link in zip(rows, ordered, strict=True):
        lines.append(f"  {row}")
        for error in link["errors"]:
            lines += finding(error, causes=error["code"] not in said)
            said.add(error["code"])
        lines += _diff(link["diff"])
        for note in link["notes"]:
            lines += _wrapped("    note      ", note)
    return lines


def _table(links: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of at most 78, names in full where that fits."""
    for name, path in ((WHOLE, WHOLE), (WHOLE, PATH)):
        lines = output.aligned([HEADS, *(_cells(link, name, path) for link in links)], RIGHT).splitlines()
        if max(map(len, lines)) <= WIDTH - 2:
            return lines
    return output.aligned([HEADS, *(_cells(link, NAME, PATH) for link in links)], RIGHT).splitlines()


def finding(error: Mapping[str, Any], *, causes: bool = True) -> list[str]:
    """An error's parts under a row; the likely causes once for each code."""
    return [
        *_wrapped("    ", f"{error['code']}: {error['happened']}", "      "),
        *_wrapped("      evidence  ", error["evidence"]),
        *(_wrapped("      likely    ", ", or ".join(error["likely"])) if causes else []),
        f"      try       {error['try']}",
    ]


def _wrapped(first: str, text: str, rest: str = "") -> list[str]:
    """`text` in lines of at most 80; a word that is longer stays whole, as it may be a command or an address."""
    indent = rest or " " * len(first)
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [first.rstrip()]


def _cells(link: Mapping[str, Any], name: int, path: int) -> list[str]:
    ahead = link["clock_ahead_s"]
    trip = link["round_trip_ms"]
    return [
        _clipped(link["peer"], name),
        _clipped(_path(link), path),
        CELLS[link["there"]],
        CELLS[link["back"]],
        "-" if trip is None else f"{trip:.1f} ms",
        _speed(link["up_bit_s"]),
        _speed(link["down_bit_s"]),
        "-" if ahead is None else apart(ahead),
    ]


def _path(link: Mapping[str, Any]) -> str:
    return f"relay {link['via']}" if link["path"] == "relay" and link["via"] else str(link["path"])


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _speed(bits: int | None) -> str:
    """812 k, 94 M, 2.3 G."""
    if bits is None:
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bits >= size:
            scaled = bits / size
            return f"{scaled:.0f} {unit}" if scaled >= 10 else f"{scaled:.1f} {unit}"
    return str(bits)


def apart(seconds: float) -> str:
    """+0.0 s, -12.3 s, +10 min, +2 d: how far another clock is ahead."""
    sign, size = "-" if seconds < 0 else "+", abs(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if size >= 2 * length:
            return f"{sign}{size / length:.0f} {unit}"
    return f"{sign}{size:.1f} s"


def _diff(diff: str | None) -> list[str]:
    if not diff:
        return []
    lines = [output.shown(line) for line in diff.splitlines()]
    shown = [f"      | {_clipped(line, WIDTH - 8)}" for line in lines[:DIFF_LINES]]
    more = len(lines) - DIFF_LINES
    return [*shown, *([f"      | … and {more} lines more"] if more > 0 else [])]
