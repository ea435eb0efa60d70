#!/usr/bin/env python3
"""Checks an exported ledger of p2pfl: python3 -I verify_ledger.py EXPORT [--genesis HEX] [--json]

For an auditor. One file; needs Python 3.11 or newer and the package `cryptography`, no key of any site, no network, and
nothing of p2pfl: it shares no code with the program whose work it checks. Exit status 0: everything holds. 1: something
does not, and what; 2: called in a wrong way. The format is described in docs/spec/ledger.md.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Map = dict[str, Any]
Keys = Mapping[str, str]  # by site, its public key in hex
ORDER_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826  # y of a point of order 8
FORMAT, ZEROS, MOST_BYTES = "p2pfl-ledger-export/1", "0" * 64, 1 << 30
OF_A_LOG = {"log", "site", "size", "root", "head", "signed_head", "entries"}
NAME, HEX16, HEX32 = map(re.compile, (r"[a-z][a-z0-9-]{0,30}", r"[0-9a-f]{32}", r"[0-9a-f]{64}"))
REAL = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]{1,3})?|inf)")
SIGNER = re.compile(r"— ([a-z][a-z0-9-]{0,30}) ([A-Za-z0-9+/=]+)")
BAD = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)

# ── what an entry may hold: field:form, a field with ? may be left out ────────────────────────────────────────

PLACE, TIME = "run:hash epoch:whole round:whole attempt:whole ", "time:whole salt:salt "
AT, IN_A_ROUND = PLACE + TIME, TIME + "run:hash round:whole "
FEDERATION = {
    "genesis": "federation:text epoch:whole federation_digest:hash peers:peers settings:map",
    "agreement": "epoch:whole sha256:hash members:names",
    "round": PLACE + "rests_on:whole base:hash time_ms:whole salt:hash attempt_digest:hash view:hash total:hash "
             "survivors:names left_out:names model_before:hash model_after:hash configuration:map outcome:map "
             "epsilon:spent site_heads:hashes announced?:hash",
    "membership": "epoch:whole of:run from_round:whole before:hash federation_digest:hash peers:peers added:names "
                  "removed:names rotated:names file:long agreement?:hash recovered?:spent",
}  # fmt: skip
SITE = {
    "start": TIME + "version:text python:text incarnation:text", "left": AT + "lacking:names sent:bool",
    "operator": TIME + "command:text options:map", "acts": TIME + "acts:acts",
    "commitment": AT + "of:text digest:hash", "breach": AT + "peer:name code:text proof:hash-or-none",
    "ballot": AT + "vote:vote attempt_digest:hash-or-none view:hash-or-none waited_for:names",
    "abandoned": AT + "certificate:hash waited_for:names", "missed": AT + "coordinator:name",
    "charge": IN_A_ROUND + "mechanism:map before:real after:real delta:real limit:real alone?:real data?:text",
    "budget": IN_A_ROUND + "spent:real would_be:real limit:real", "dropped": TIME + "log:log segment:whole bytes:whole",
    "query": IN_A_ROUND + "attempt:whole query:text data:hash members:names",
}  # fmt: skip
SITE["look"] = SITE["charge"] + " charged:bool"


def matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, str) and pattern.fullmatch(x) is not None


is_name, is_hash, is_real, is_salt = map(matches, (NAME, HEX32, REAL, HEX16))
FORMS: dict[str, Any] = {
    "name": is_name, "hash": is_hash, "real": is_real, "hash-or-none": lambda x: x is None or is_hash(x),
    "whole": lambda x: type(x) is int and x >= 0, "bool": lambda x: isinstance(x, bool),
    "text": lambda x: isinstance(x, str) and len(x) <= 200 and x.isprintable(), "long": lambda x: isinstance(x, str),
    "map": lambda x: isinstance(x, dict), "vote": lambda x: x in ("SURVIVORS", "ABANDON"),
    "names": lambda x: isinstance(x, list) and all(map(is_name, x)),
    "peers": lambda x: isinstance(x, list) and len(x) > 0 and all(
        isinstance(one, list) and len(one) == 2 and is_name(one[0]) and is_hash(one[1]) for one in x),
    "spent": lambda x: isinstance(x, dict) and all(is_name(k) and (v == "" or is_real(v)) for k, v in x.items()),
    "hashes": lambda x: isinstance(x, dict) and all(is_name(k) and is_hash(v) for k, v in x.items()),
    "run": lambda x: x in ("training", "sums"), "log": lambda x: x in ("federation", "site"), "salt": is_salt,
    "acts": lambda x: isinstance(x, list) and all(isinstance(one, dict) and set(one) == {"command", "options"}
        and FORMS["text"](one["command"]) and isinstance(one["options"], dict) for one in x),
}  # fmt: skip


def facts_of(record: bytes, kinds: Mapping[str, str]) -> Map:
    """The facts of a record. Raises ValueError when it is not of a known form."""
    held = canonical(record)
    if held.get("kind") not in kinds:
        raise ValueError(f"an entry of kind {str(held.get('kind'))[:40]!r}, which this program does not know here")
    forms = dict(row.split(":") for row in kinds[held["kind"]].split())
    for field, form in forms.items():
        name = field.rstrip("?")
        if (name in held or field == name) and not FORMS[form](held.get(name, ...)):
            raise ValueError(f"{held['kind']}: {name} is missing or does not hold what it must")
    if odd := set(held) - {"kind", *(field.rstrip("?") for field in forms)}:
        raise ValueError(f"{held['kind']}: {', '.join(sorted(odd))[:80]} does not belong there")
    return held


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def refuse(text: str) -> Any:
    raise ValueError(f"{text[:20]} is not exact")


def canonical(data: bytes, end: bytes = b"") -> Map:
    """The map that these bytes, up to their end, are the one spelling of."""
    held = json.loads(data, parse_float=refuse, parse_constant=refuse)
    if not isinstance(held, dict) or json.dumps(held, sort_keys=True, separators=(",", ":")).encode() + end != data:
        raise ValueError("it is not in canonical form: it was edited, or written by another program")
    return held


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digest(kind: str, *parts: bytes) -> bytes:
    return sha(b"p2pfl/1/" + kind.encode() + b"\0" + b"".join(len(one).to_bytes(8, "big") + one for one in parts))


def roots_of(leaves: list[bytes]) -> list[bytes]:
    """By number of leaf hashes, from 0 on, the Merkle root of RFC 6962 over so many of them."""
    found, peaks = [sha(b"")], list[tuple[int, bytes]]()  # perfect trees, largest first: leaves and root of each
    for leaf in leaves:
        size, root = 1, leaf
        while peaks and peaks[-1][0] == size:
            size, root = size * 2, sha(b"\1" + peaks.pop()[1] + root)
        peaks.append((size, root))
        for _, left in reversed(peaks[:-1]):
            root = sha(b"\1" + left + root)
        found.append(root)
    return found


def unhex(text: str, size: int) -> bytes:
    if not re.fullmatch(f"[0-9a-f]{{{2 * size}}}", text):
        raise ValueError("a value is not so many bytes in hex")
    return bytes.fromhex(text)


def unbase64(text: str, size: int) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise ValueError("a value is not so many bytes in base64")
    return raw


def signed(key: str, kind: str, data: bytes, signature: bytes) -> bool:
    """It is the key's signature, and the key is no point of small order: under those anybody's signature holds."""
    try:
        raw, p = bytes.fromhex(key), 2**255 - 19
        y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
        if y >= p or y in (0, 1, p - 1, ORDER_EIGHT, p - ORDER_EIGHT):
            return False
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, f"p2pfl/1/{kind}\0".encode() + data)
    except (InvalidSignature, ValueError):
        return False
    return True


def quorum(sites: int) -> int:
    return 2 * sites // 3 + 1


class Log:
    """Entries of one log, and what is wrong with how they hang together."""

    def __init__(self, held: Map, which: str) -> None:
        more = {"cosigned", "seen", "waiting"} if which == "site" else set()
        if set(held) != OF_A_LOG | more or held["log"] != which or not is_name(held["site"]):
            raise ValueError("a log has other fields than an export has")
        self.which, self.site, self.note = which, held["site"], held["signed_head"]
        self.cosigned, self.seen = held.get("cosigned", []), held.get("seen", [])
        self.witnesses, self.others, self.acts = dict[str, int](), list[list[Any]](), list[Map]()
        if any(isinstance(row, str) for row in held["entries"]):
            raise ValueError("hashes stand in place of entries: ask for an export without --without-rounds")
        self.rows = [self._row(row) for row in held["entries"]]
        self.roots = roots_of([sha(b"\0" + record) for record, _ in self.rows])
        chain = bytes(32)
        for record, _ in self.rows:
            chain = digest("entry", chain, record)
        stated = (held["size"], unhex(held["root"], 32), unhex(held["head"], 32))
        if stated != (len(self.rows), self.roots[-1], chain) or type(held["size"]) is not int:
            raise ValueError("entries were changed, removed or added: number, root and chain are not those of the file")
        self.root, self.covered, self.stands, self.signers, self.later = held["root"], 0, 0, list[str](), list[int]()
        self.last, self.waits = chain, [held["waiting"]] if more else []

    @staticmethod
    def _row(row: Map) -> tuple[bytes, dict[str, bytes]]:
        if set(row or ()) != {"record", "signatures"} or not all(map(is_name, row["signatures"])):
            raise ValueError("an entry has other fields than an export has")
        return row["record"].encode("ascii"), {name: unhex(one, 64) for name, one in row["signatures"].items()}

    def check_heads(self, keys: Mapping[str, set[str]], beside: "Log | None") -> Iterator[str]:
        """What is wrong with its newest head, those that others cosigned or its site saw of theirs, and what waits."""
        kinds = (("its signed head", [self.note or ""]), ("a cosigned head", self.cosigned), ("a seen head", self.seen))
        for what, text in [(what, text) for what, texts in kinds for text in texts]:
            try:
                origin, count, root, more, signers = note_of(text, keys)
                owner = origin.removeprefix("p2pfl/1/site/") if what == "a seen head" else self.site
                if owner not in signers:
                    yield f"{what} is not signed by {owner}"
                size = max(0, int(more[0].split(" ")[1])) if beside else 0
                if what == "a seen head" and beside:
                    known = size >= len(beside.roots) or more[0].endswith(base64.b64encode(beside.roots[size]).decode())
                    self.others.append([owner, count, root.hex(), *(() if known else ("of another study or history",))])
                    continue
                over = [f"federation {size} {base64.b64encode(beside.roots[size]).decode()}"] if beside else []
                yield from (f"{what} {wrong}" for wrong in self._head(origin, count, root, more, over))
                if what == "its signed head":
                    self.covered, self.signers, self.stands = count, signers, size
                self.witnesses |= {one: max(count, self.witnesses.get(one, 0)) for one in signers if one != owner}
            except BAD as error:
                yield f"{what} is missing or malformed: {error}"
        own = [{self.site: key} for key in keys.get(self.site, ())]
        for row in self.waits:
            try:
                record, by = self._row(row)
                self.acts = facts_of(record, {"acts": SITE["acts"]})["acts"]
                if set(by) != {self.site} or not any(signing(key, "waiting", self.last + record, by) for key in own):
                    yield "what waits for it is not signed by its site as of these entries"
            except BAD as error:
                yield f"what waits for it is missing or malformed: {error}"

    def _head(self, origin: str, count: int, root: bytes, more: list[str], over: list[str]) -> Iterator[str]:
        first = f"site/{self.site}" if self.which == "site" else f"federation/{sha(self.rows[0][0]).hex()[:32]}"
        if origin != f"p2pfl/1/{first}":
            yield "is of another log"
        if not 0 <= count <= len(self.rows) or root != self.roots[count]:
            yield "is over other entries"
        if more[:1] != over or not re.fullmatch(r"(epsilon ([0-9.]+|inf))?", "".join(more[1:])):
            yield "has other lines than such a head has, or speaks of other entries of the federation log"


def note_of(note: str, keys: Mapping[str, set[str]]) -> tuple[str, int, bytes, list[str], list[str]]:
    """Origin, entries, root, further lines and signers of a signed head. Raises ValueError on any false signature."""
    text, gap, lines = note.partition("\n\n")
    origin, size, root, *more = text.split("\n")
    if not gap or not lines.endswith("\n") or str(int(size)) != size:
        raise ValueError("it is no signed text")
    signers = list[str]()
    for line in lines.removesuffix("\n").split("\n"):
        found = SIGNER.fullmatch(line)
        name, raw = (found[1], unbase64(found[2], 68)) if found else ("nobody", bytes(68))
        key_id = f"{name}\n".encode() + b"\xffp2pfl/1/head"
        if not any(signed(key, "head", f"{text}\n".encode(), raw[4:])
                   and raw[:4] == sha(key_id + bytes.fromhex(key))[:4] for key in keys.get(name, ())):  # fmt: skip
            raise ValueError(f"a false signature of {name}")
        signers.append(name)
    return origin, int(size), unbase64(root, 32), more, signers


class Federation:
    """Walks a federation log from its first entry: who the sites are, and whether each entry follows."""

    def __init__(self, log: Log) -> None:
        self.log, self.findings, self.settings = log, list[tuple[int | None, str]](), Map()
        self.sites: Keys = {}
        self.ever = dict[str, set[str]]()  # by name, every key that it had
        self.began = dict[str, int]()  # by name, the entry since which its own log counts, where that is not the first
        self.name, self.genesis, self.epoch, self.first, self.federation_digest = "", "", 0, "", ""
        self.agreement: str | None = None
        self.announced: str | None = None
        self.last: tuple[str, int] = ("", 0)  # run and number of the last round
        self.runs = dict[str, tuple[int, str, str]]()  # by run: number, digest of the record, model after it
        self.epsilon, self.full = dict[str, float](), dict[str, str]()  # full: certified records, on what each rests
        self.rounds, self.trained, self.changes, self.time_ms = 0, 0, 0, 0
        self.wanting = list[tuple[int, str, str, int]]()  # rounds with few signatures: entry, record, base, how many
        for index, (record, signatures) in enumerate(log.rows):
            try:
                problems = list(self._entry(index, facts_of(record, FEDERATION), record, signatures))
            except BAD as error:
                problems = [f"malformed: {error}"]
            self.findings += [(index, what) for what in problems]
        self._judge_wanting()

    def _entry(self, index: int, held: Map, record: bytes, signatures: Mapping[str, bytes]) -> Iterator[str]:
        kind = held["kind"]
        if (kind == "genesis") != (index == 0) or (kind == "agreement" and index != 1):
            yield f"an entry of kind {kind} does not belong here"
        elif self.announced is not None and kind != "membership":
            yield "the change of membership that the round before announces should stand here"
        else:
            yield from getattr(self, f"_{kind}")(index, held, record, signatures)

    def _genesis(self, index: int, held: Map, record: bytes, signatures: Mapping[str, bytes]) -> Iterator[str]:
        self._enter(held["peers"])
        self.name, self.genesis = held["federation"], sha(record).hex()
        self.epoch, self.settings = held["epoch"], held["settings"]
        self.first = self.federation_digest = held["federation_digest"]
        if not 3 <= len(self.sites) <= 200 or len(set(self.sites.values())) != len(held["peers"]):
            yield "fewer than three sites, or two with one name or key"
        yield from lacking(self.sites, signing(self.sites, "record", record, signatures), signatures, self.sites)

    def _agreement(self, index: int, held: Map, record: bytes, signatures: Mapping[str, bytes]) -> Iterator[str]:
        self.agreement = held["sha256"]
        if held["epoch"] != self.epoch or set(held["members"]) != set(self.sites):
            yield "the agreement is not one of all the sites of this epoch"
        yield from lacking(held["members"], signing(self.sites, "record", record, signatures), signatures, self.sites)

    def _round(self, index: int, held: Map, record: bytes, signatures: Mapping[str, bytes]) -> Iterator[str]:
        run, number, survivors = held["run"], held["round"], held["survivors"]
        before, base, model = self.runs.get(run, (0, ZEROS, held["model_before"]))
        if held["epoch"] != self.epoch:
            yield f"a round of epoch {held['epoch']} among those of epoch {self.epoch}"
        if not set(survivors) <= set(self.sites) or len(set(survivors)) != len(survivors):
            yield "the sum is over somebody who is no site, or twice over one"
        if len(survivors) < quorum(len(self.sites)):
            yield f"the sum is over {len(survivors)} sites; fewer than {quorum(len(self.sites))} could single one out"
        if (held["rests_on"], held["base"]) != (before, base) or number <= before:
            yield f"round {number} does not rest on the round before it"
        if held["model_before"] != model:
            yield f"round {number} begins with another model than the one that the round before ended with"
        yield from self._spend(held["epsilon"])
        name = digest("base", record).hex()
        good = signing(self.sites, "record", record, signatures)
        yield from lacking((), good, signatures, self.sites)
        if len(good) >= quorum(len(self.sites)) and good == set(signatures):
            self.full[name] = held["base"]
        else:
            self.wanting.append((index, name, held["base"], len(good)))
        self.runs[run], self.last = (number, name, held["model_after"]), (run, number)
        self.announced, self.time_ms, self.rounds = held.get("announced"), held["time_ms"], self.rounds + 1
        self.trained += held["configuration"].get("purpose") == "training"

    def _membership(self, index: int, held: Map, record: bytes, signatures: Mapping[str, bytes]) -> Iterator[str]:
        old, new, file = self.sites, dict(held["peers"]), held["file"]
        if digest("change", record).hex() != self.announced:
            yield "a change of membership that the round before does not announce"
        source = self.first if held["of"] == "training" else self.federation_digest
        due = digest("run", bytes.fromhex(source), held["of"].encode()).hex()
        if self.last[0] != due or self.last[1] < held["from_round"] - 1 or held["from_round"] < 2:
            yield "the change stands before the round from which it counts"
        if (held["epoch"], held["before"]) != (self.epoch + 1, self.federation_digest):
            yield "the change does not lead from this epoch to the next"
        if sha(file.encode()).hex() != held["federation_digest"]:
            yield "the change does not hold the peers.yaml that it names"
        if any(text not in file for text in (self.first, self.genesis, *new.values(), *new)):
            yield "the peers.yaml in the change lists other sites, or is of another federation"
        joins = {name: new[name] for name in new if name not in old}
        told = ([*joins], [one for one in old if one not in new], [x for x in new if old.get(x, new[x]) != new[x]])
        if (held["added"], held["removed"], held["rotated"]) != told:
            yield "who joins, leaves or has another key is not what the lists of sites say"
        holder = {key: name for name, key in old.items()}
        if any(holder.get(key, name) != name for name, key in new.items()) or len(set(new.values())) != len(new):
            yield "a key has changed its name"
        yield from (f"{x} left with another key" for x in joins if joins[x] not in self.ever.get(x, joins.values()))
        if len(new) != len(held["peers"]) or not 3 <= len(new) <= 200:
            yield "fewer than three sites, or one twice"
        if joins and (held.get("agreement") != self.agreement or (self.agreement or "") not in file):
            yield "who joins does not join under the agreement of the first epoch"
        keys = {**joins, **old}
        good = signing(keys, "membership", record, signatures)
        yield from lacking([*told[2], *(joins if self.agreement else ())], good, signatures, keys)
        older = held.get("recovered", {})  # sites that go on from an older home, which has forgotten what it signed
        if any(old.get(name) != new.get(name, "") for name in older):
            yield "who goes on from an older home does not stay, or has another key"
        yield from self._spend(older)
        if len(good & set(old) - set(older)) < quorum(len(old)):
            yield f"{len(good & set(old) - set(older))} sites approved the change, {quorum(len(old))} must"
        self.began |= dict.fromkeys([*told[0], *older], index)
        self._enter(held["peers"])
        self.epoch, self.federation_digest, self.announced = held["epoch"], held["federation_digest"], None
        self.changes += 1

    def _spend(self, said: Mapping[str, str]) -> Iterator[str]:
        for name, text in said.items():
            if text and float(text) < self.epsilon.get(name, 0.0):
                yield f"the privacy spent by {name} goes down, from {self.epsilon[name]:g} to {text}"
            self.epsilon[name] = max(self.epsilon.get(name, 0.0), float(text or 0))

    def _enter(self, peers: list[list[str]]) -> None:
        self.sites = dict(peers)
        for name, key in peers:
            self.ever.setdefault(name, set()).add(key)

    def _judge_wanting(self) -> None:
        """A round with fewer signatures counts when a later one rests on it that a quorum signed."""
        rested_on = set(self.full.values())
        for index, name, base, count in reversed(self.wanting):
            if name in rested_on:
                rested_on.add(base)
            else:
                self.findings.append((index, f"{count} sites signed the round, too few"))


def signing(keys: Keys, kind: str, record: bytes, signatures: Mapping[str, bytes]) -> set[str]:
    """Whose signatures over the record are good."""
    return {name for name, one in signatures.items() if name in keys and signed(keys[name], kind, record, one)}


def lacking(must: Iterable[str], good: set[str], signatures: Iterable[str], keys: Keys) -> Iterator[str]:
    for name in sorted(set(signatures) - good):
        yield f"the signature of {name} is false" if name in keys else f"signed by {name}, which is no site"
    if left := set(must) - good:
        yield f"not signed by {', '.join(sorted(left))}"


# ── a site's own log ──────────────────────────────────────────────────────────────────────────────────────────


def check_site(log: Log, federation: Log, began: int) -> Iterator[tuple[int | None, str]]:
    """Each entry of a known form; one ballot an attempt; privacy that only grows; the heads that rounds carry."""
    ballots, by_data = dict[tuple[Any, ...], tuple[Any, ...]](), dict[Any, float]()
    for index, (record, signatures) in enumerate(log.rows):
        try:
            held = facts_of(record, SITE)
        except BAD as error:
            yield index, f"malformed: {error}"
            continue
        if signatures:
            yield index, "signatures beside an entry that needs none"
        if held["kind"] == "ballot":
            place = tuple(held[key] for key in ("run", "epoch", "round", "attempt"))
            said = tuple(held[key] for key in ("vote", "attempt_digest", "view"))
            if ballots.setdefault(place, said) != said:
                yield index, f"a second, other ballot in round {held['round']}"
        if held["kind"] in ("charge", "look"):
            before, after, limit = (float(held[key]) for key in ("before", "after", "limit"))
            if before < (spent := by_data.get(account := (held["kind"], held.get("data")), 0.0)) or after < before:
                yield index, f"the privacy account goes down, from {spent:g}"
            if after > (limit if held.get("charged", True) else before):
                yield index, f"the privacy spent, {held['after']}, is above its limit"
            by_data[account] = max(spent, after)
    roots = {None, *(root.hex() for root in log.roots)}
    for index, (record, _) in enumerate(federation.rows):
        held = json.loads(record) if index > began and b'"kind":"round"' in record else {"site_heads": {}}
        if held["site_heads"].get(log.site) not in roots:
            log.later += [index] * (index >= log.stands)  # honest, where it was written after this log had been read
            if index < log.stands:
                yield None, f"entry {index} of the federation log carries a head of this log that it never had"


# ── what a person reads ───────────────────────────────────────────────────────────────────────────────────────

UNSEEN = """What no file can show: that no later entry was kept back, and that other sites hold the same log. Ask a
second site for its export: at the same number of entries both must have the same root. Nor that what sites said of
their data is true."""


def checked(data: bytes, genesis: str | None) -> Map:
    """Everything that is found of an exported file. Raises ValueError and its like when it is none."""
    if len(data) > MOST_BYTES or (held := canonical(data, b"\n")).pop("format", None) != FORMAT:
        raise ValueError("it is not an export that this program knows, or holds more than 1 GiB, the most it reads")
    beside = held.pop("federation", None)
    log, site = (Log(held, "federation"), None) if beside is None else (Log(beside, "federation"), Log(held, "site"))
    if not log.rows or (site is not None and site.site != log.site):
        raise ValueError("the federation log is empty, or the two logs are of two sites")
    judged = Federation(log)
    found = [("federation", index, what) for index, what in sorted(judged.findings, key=lambda one: one[0] or 0)]
    found += [("federation", None, what) for what in log.check_heads(judged.ever, None)]
    if site is not None:
        found += [("site", None, what) for what in site.check_heads(judged.ever, log)]
        found += [("site", index, what) for index, what in check_site(site, log, judged.began.get(log.site, -1))]
    if genesis is not None and genesis.lower() != judged.genesis:
        found.append(("federation", 0, f"the first entry is {judged.genesis}, not the one that was named"))
    return {
        "verified": not found, "log": (site or log).which, "site": log.site,
        "federation": judged.name, "entries": len((site or log).rows), "root": (site or log).root,
        "genesis": judged.genesis, "epoch": judged.epoch, "sites": dict(judged.sites), "waiting": (site or log).acts,
        "quorum": quorum(len(judged.sites)), "rounds": judged.rounds, "trained": judged.trained,
        "changes": judged.changes, "last_round_ms": judged.time_ms, "agreement": judged.agreement,
        "epsilon": {name: f"{value:g}" for name, value in sorted(judged.epsilon.items())},
        "limit": str(judged.settings.get("max_epsilon", "")), "delta": str(judged.settings.get("delta", "")),
        "head": {"entries": (site or log).covered, "signed_by": sorted((site or log).signers)},
        "witnesses": dict(sorted((site or log).witnesses.items())), "seen": (site or log).others,
        "findings": [{"log": which, "entry": index, "what": what} for which, index, what in found],
        "notes": [f"the last {len(one.rows) - one.covered} entries of the {one.which} log are not under its signed "
                  "head: they were written after it" for one in (log, site) if one and len(one.rows) > one.covered]
                 + [f"entry {index} of the federation log carries a head that is not in this log: it is later, or kept "
                    "back" for index in (site.later if site else ())],
    }  # fmt: skip


def told(path: str, facts: Map) -> str:
    if "site" not in facts:
        return f"NOT VERIFIED: {path}\n  FOUND         {facts['findings'][0]['what']}"
    last = datetime.fromtimestamp(min(facts["last_round_ms"] // 1000, 253402300799), UTC).strftime("%Y-%m-%d %H:%M UTC")
    worst = max(facts["epsilon"].values(), key=float, default="0")
    spent = "unbounded: trained WITHOUT privacy" if worst == "inf" else f"at most {worst} of {facts['limit']}"
    verdict = "VERIFIED" if facts["verified"] else f"NOT VERIFIED, {len(facts['findings'])} findings"
    lines = [
        f"{verdict}: {path}",
        f"  what it is    the {facts['log']} log of {facts['site']}, {facts['entries']} entries, root {facts['root']}",
        f"  federation    {facts['federation']}, epoch {facts['epoch']}, {len(facts['sites'])} sites; "
        f"{facts['quorum']} of them must sign a round",
        f"  rounds        {facts['rounds']}, {facts['trained']} of training" + f"; last {last}" * (facts["rounds"] > 0),
        f"  membership    {facts['changes']} changes, each approved by the sites before it",
        f"  agreement     {facts['agreement'] or 'none is named'}"
        + (", signed by every site that was ever one" if facts["agreement"] and facts["verified"] else ""),
        f"  privacy       epsilon {spent} at delta {facts['delta']}",
        f"  signed head   of {facts['head']['entries']} entries by {', '.join(facts['head']['signed_by']) or 'nobody'}",
        *(f"  witness       {name} saw its first {count} entries" for name, count in facts["witnesses"].items()),
        *(f"  it saw        of the log of {name} {n} entries, root {', '.join(of)}" for name, n, *of in facts["seen"]),
        *(f"  waits for it  {act['command']} {json.dumps(act['options'])}" for act in facts["waiting"]),
    ]
    lines += [f"  FOUND         {one['log']} log, entry {one['entry']}: {one['what']}" for one in facts["findings"]]
    lines += [f"  note          {what}" for what in facts["notes"]]
    lines += ["Compare with what other sites told you themselves (or name the first with --genesis):",
              f"  first entry   SHA-256 {facts['genesis']}",
              *(f"  key of {name}  {key}" for name, key in facts["sites"].items()), UNSEEN]  # fmt: skip
    return "\n".join(lines).replace(" log, entry None: ", " log: ")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Checks an exported ledger of p2pfl. Exit status 0: everything holds.")
    parser.add_argument("export", help="the file that `p2pfl ledger export` wrote")
    parser.add_argument("--genesis", metavar="HEX", help="SHA-256 of the first entry, as another site told it")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of text")
    given = parser.parse_args(arguments)
    try:
        with open(given.export, "rb") as file:
            facts = checked(file.read(MOST_BYTES + 1), given.genesis)
    except (*BAD, OSError) as error:
        found = {"log": None, "entry": None, "what": str(getattr(error, "strerror", None) or error)[:300]}
        facts = {"verified": False, "findings": [found]}
    text = json.dumps(facts, sort_keys=True) if given.json else told(given.export, facts)
    # Whatever the file holds, no character of it steers the terminal.
    sys.stdout.write("".join(one if " " <= one <= "~" or one == "\n" else "?" for one in text) + "\n")
    return 0 if facts["verified"] else 1


if __name__ == "__main__":
    sys.exit(main())
