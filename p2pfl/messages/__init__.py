"""Every message that crosses a link: fields, limits, signed or not. The wire, in one package.

`schema` says what a kind is made of, `attempt` and `outcome` hold the kinds in the order of a round, `letters` seals
and reads them. Bulk (`Chunk`, `SumChunk`, `Opened`, `Total`, `ModelPart`) is not signed: a digest that is signed binds
each of them. Byte for byte: `docs/spec/wire.md`, `tests/vectors/wire.json`.
"""

from p2pfl.messages.attempt import (
    Ack,
    Acknowledged,
    Bundle,
    Chunk,
    Held,
    Members,
    Nonce,
    Opened,
    Propose,
    Root,
    Share,
    SumChunk,
    SumDigest,
    Tags,
)
from p2pfl.messages.letters import (
    BULK_BEGINS,
    Letter,
    authentic,
    carries,
    kind_said,
    narrow,
    open_letter,
    read_letter,
    read_proof,
    rejoin,
    seal,
)
from p2pfl.messages.outcome import (
    BackupShare,
    Ballot,
    Behind,
    Certificate,
    Changed,
    Confirm,
    Cosigned,
    Entries,
    Evidence,
    Handed,
    Hello,
    Item,
    Lacking,
    Leave,
    ModelPart,
    Question,
    Ready,
    Reveal,
    SiteHead,
    Total,
    Want,
)
from p2pfl.messages.schema import CHUNK, KINDS, LARGE, SMALL, SUPPORT, VERSION, WIRE_BYTES, Envelope, Message

OF_A_ROUND = (
    Share, Ack, Propose, Members, Held, Root, Chunk, SumDigest, Nonce, SumChunk, Tags, Opened, Ready, Ballot,
    Certificate, Leave, Reveal, BackupShare, Confirm, Want, Total,
)  # fmt: skip
"""What a round has a place for, in one phase or another. The others go between nodes, or hold letters of a round."""

__all__ = [
    "BULK_BEGINS",
    "CHUNK", "KINDS", "LARGE", "OF_A_ROUND", "SMALL", "SUPPORT", "VERSION", "WIRE_BYTES", "Ack", "Acknowledged",
    "BackupShare", "Ballot", "Behind", "Bundle", "Certificate", "Changed", "Chunk", "Confirm", "Cosigned", "Entries",
    "Envelope", "Evidence", "Handed", "Held", "Hello", "Item", "Lacking", "Leave", "Letter", "Members",
    "Message", "ModelPart", "Nonce", "Opened", "Propose", "Question", "Ready", "Reveal", "Root", "Share", "SiteHead",
    "SumChunk", "SumDigest", "Tags", "Total", "Want", "authentic", "carries", "kind_said", "narrow", "open_letter",
    "read_letter", "read_proof", "rejoin", "seal",
]  # fmt: skip
