"""What may lie in a home, and how it is sealed: one table; AES-256-GCM under a key fresh for every write.

A sealed item is  MAGIC ‖ salt (32) ‖ ciphertext ‖ tag (16).  The key is HKDF(master, salt, label of the row, item), so
that no key seals twice and the nonce may be constant: a restored disk, which repeats counters, repeats neither. The
home's name and the item's are associated data: a file that is moved inside a home, or between homes, does not open.
Pure: bytes in, bytes out. docs/spec/home.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from p2pfl.codec import Buffer, Pieces
from p2pfl.errors.home import NotInLayout
from p2pfl.keys import Secret, derive

MAGIC: Final = b"p2pfl/1/sealed\0"
SALT_BYTES: Final = 32
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = len(MAGIC) + SALT_BYTES + TAG_BYTES
# Each key is used once, so the nonce need not vary (NIST SP 800-38D §8 asks for distinct pairs of key and nonce).
NONCE: Final = bytes(12)
PIECE_BYTES: Final = 1 << 20  # of data sealed at a time
EVIDENCE: Final = "state/evidence"


STUDIES: Final = "studies"
OF_STUDY: Final = re.compile(STUDIES + r"/[a-z][a-z0-9-]{0,30}/")  # before an item of a study with a folder of its own


@dataclass(frozen=True, slots=True)
class ItemRule:
    """One kind of sealed item: a pattern of its names, the label of its key, and what it holds.

    shared     there is one in a home, and not one for each of its studies
    stepwise   it changes with every step of a round: while a process works it lies in the journal (journal.py)
    """

    pattern: str
    label: str
    holds: str
    shared: bool = False
    stepwise: bool = False


LAYOUT: Final = (
    ItemRule("identity", "home/identity", "the site's Ed25519 key", shared=True),
    ItemRule(
        "state/attempt",
        "home/state",
        "the attempt under way: what was sent, signed, and may still be revealed",
        stepwise=True,
    ),
    ItemRule(
        "state/residual", "home/state", "the update already charged for, and what sparsifying and quantising held back"
    ),
    ItemRule("state/pass", "home/state", "the seed of the pass that has begun, until its update is on the disk"),
    ItemRule(
        "state/sums/[01]",
        "home/state",
        "the masked sums of this round and of the last, fsynced before a READY",
        stepwise=True,
    ),
    ItemRule(
        "state/total", "home/state", "the last final round, as it is served to peers that missed it", stepwise=True
    ),
    ItemRule("state/journal", "home/state", "while a process works: what of these changes with every step of a round"),
    ItemRule("state/answer", "home/state", "what the last sum came to, until its caller has it", stepwise=True),
    ItemRule(r"state/averages/[0-9a-f]{16}", "home/state", "what averages of one name hold back of a site's arrays"),
    ItemRule("state/peers", "home/state", "the last statements that each peer signed", stepwise=True),
    ItemRule(
        "state/heads",
        "home/state",
        "heads of site logs: those that this site cosigned, and its own that others did",
        stepwise=True,
    ),
    ItemRule("state/links", "home/state", "the links and the round of the running process, for `status`, `dashboard`"),
    ItemRule("state/traffic", "home/state", "what this site sent in past rounds, for `report` and `dashboard`"),
    ItemRule("state/curves", "home/state", "ROC and calibration of the last measured model, in groups of patients"),
    ItemRule("state/federation", "home/state", "the peers.yaml of the epoch that the home is in"),
    ItemRule("state/stopped", "home/state", "the digest of the peers.yaml under which the home was found to be older"),
    ItemRule("state/held-out", "home/state", "a keyed digest of the held-out records that the study counts"),
    ItemRule(r"state/left/[0-7]", "home/state", "a round that was left behind and may still come to a sum"),
    ItemRule(r"state/left-sums/[0-7]", "home/state", "the masked sums of such a round"),
    ItemRule(rf"{EVIDENCE}/[0-9a-f]{{16}}", "home/state", "letters that prove that a peer broke the protocol"),
    ItemRule("membership/identity", "home/identity", "the key that this site changes to, once that is approved"),
    ItemRule("membership/kept", "home/identity", "the key of this study, where another one has changed the site's"),
    ItemRule("membership/former", "home/state", "public keys that were this site's"),
    ItemRule("membership/signed", "home/state", "the one change to the next epoch that this site signed"),
    ItemRule("membership/change", "home/state", "the next change, with signatures enough"),
    ItemRule(
        "membership/revoked",
        "home/state",
        "keys of which this site accepts nothing any more, and those that it accepted again",
    ),
    ItemRule("membership/tasks", "home/state", "the files of tasks that this site's people approved", True),
    ItemRule(
        "membership/questions", "home/state", "the questions, and kinds of them, that this site's people approved"
    ),
    ItemRule(
        "accounts/questions", "home/state", "how many questions were asked of which records, over all studies", True
    ),
    ItemRule("state/question", "home/state", "a question's charge of which no noised sum has left"),
    ItemRule("membership/retention", "home/state", "for how many years this site keeps what", True),
    ItemRule("membership/notes", "home/state", "what was done beside a running process, until a site log has it", True),
    ItemRule("accounts/spent", "home/state", "what was spent of which records, over all studies", True),
    ItemRule("accounts/withdrawn", "home/state", "marks of the records and patients that are left out", True),
    ItemRule("accounts/measured", "home/state", "what looks at which held-out records have spent", True),
    ItemRule(
        "accounts/set-back", "home/state", "after a backup was restored: the studies that are still to be heard", True
    ),
    ItemRule(r"checkpoints/[a-z][a-z0-9-]{0,39}", "home/checkpoint", "a model, as safetensors"),
    ItemRule(
        r"ledger/(federation|site)/head",
        "home/ledger",
        "the newest head that this site signed over that log",
        stepwise=True,
    ),
)
DIRECTORIES: Final = (
    "state", "state/sums", "state/averages", "state/left", "state/left-sums", EVIDENCE, "membership", "checkpoints",
    "ledger", "ledger/federation", "ledger/site",
)  # fmt: skip
SHARED_DIRECTORIES: Final = ("accounts", STUDIES)


def rule_of(item: str) -> ItemRule:
    """The table's row for `item`. Raises NotInLayout: what has no row cannot be stored."""
    study = OF_STUDY.match(item)
    name = item[study.end() :] if study else item
    for candidate in LAYOUT:
        if re.fullmatch(candidate.pattern, name) and not (study and candidate.shared):
            return candidate
    raise NotInLayout(evidence=f"the table has {len(LAYOUT)} rows and none fits", item=item)


def _cipher(master: Secret, item: str, salt: bytes, tag: bytes | None) -> Cipher[GCM]:
    key = derive(master.reveal(), rule_of(item).label, item.encode(), salt=salt)
    return Cipher(AES256(key), GCM(NONCE, tag))


def _associated(name: str, item: str) -> bytes:
    return MAGIC + name.encode() + b"\0" + item.encode()


class Sealing:
    """The sealed form of data that comes piece by piece: `begin`, each `update` and `end` behind one another.

    salt: 32 fresh random bytes, never used before. Raises NotInLayout.
    """

    def __init__(self, master: Secret, name: str, item: str, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
        self._encryptor = _cipher(master, item, salt, None).encryptor()
        self._encryptor.authenticate_additional_data(_associated(name, item))
        self.begin = MAGIC + salt

    def update(self, data: Buffer) -> Iterator[bytes]:
        """In pieces of at most 1 MiB, so that a model is never in memory twice."""
        view = memoryview(data)
        for start in range(0, len(view), PIECE_BYTES):
            yield self._encryptor.update(view[start : start + PIECE_BYTES])

    def end(self) -> bytes:
        """Nothing comes any more."""
        return self._encryptor.finalize() + self._encryptor.tag


def seal(master: Secret, name: str, item: str, data: bytes | Pieces, salt: bytes) -> Iterator[bytes]:
    """The sealed form of `data`, whole, as `Sealing` gives it."""
    sealing = Sealing(master, name, item, salt)
    yield sealing.begin
    for part in data if isinstance(data, Pieces) else (data,):
        yield from sealing.update(part)
    yield sealing.end()


def unseal(master: Secret, name: str, item: str, sealed: bytes) -> bytes:
    """The data behind `sealed`. Raises ValueError, with the reason, when it is not what `seal` made for this item."""
    if len(sealed) < OVERHEAD_BYTES:
        raise ValueError(f"{len(sealed)} bytes are fewer than the {OVERHEAD_BYTES} of an empty item")
    if not sealed.startswith(MAGIC):
        raise ValueError("it does not begin as a sealed item of this version")
    view = memoryview(sealed)
    body = len(MAGIC) + SALT_BYTES
    decryptor = _cipher(master, item, bytes(view[len(MAGIC) : body]), bytes(view[-TAG_BYTES:])).decryptor()
    decryptor.authenticate_additional_data(_associated(name, item))
    data = decryptor.update(view[body:-TAG_BYTES])
    try:
        decryptor.finalize()
    except InvalidTag:
        raise ValueError("AES-256-GCM does not authenticate it under this home's key") from None
    return data
