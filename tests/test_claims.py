"""SECURITY.md's claims and the tests' markers name one another, and docs/claims.md says which test carries which."""

from __future__ import annotations

from tools import claims

LISTED = [claim for rows in claims.claims().values() for claim in rows]
CARRIED = claims.tests()


def test_every_claim_has_a_test() -> None:
    assert len(LISTED) > 100
    assert [claim for claim in LISTED if not CARRIED.get(claim)] == []


def test_every_marker_names_a_claim_of_security_md() -> None:
    assert set(CARRIED) <= set(LISTED)


def test_no_claim_is_listed_twice() -> None:
    text = (claims.ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [row["id"] for row in map(claims.ROW.match, text.splitlines()) if row]
    assert rows == LISTED


def test_claims_md_is_what_the_script_writes() -> None:
    assert claims.FILE.read_text(encoding="utf-8") == claims.page(), "python -m tools.claims"
