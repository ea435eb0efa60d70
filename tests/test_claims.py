"""SECURITY.md's claims and the tests' markers name one another, and docs/claims.md says which test carries which."""

from __future__ import annotations

import re

from tools import claims

LISTED = [claim for rows in claims.claims().values() for claim in rows]
CARRIED = claims.tests()


def test_every_claim_has_a_test() -> None:
    assert len(LISTED) > 100
    assert [claim for claim in LISTED if not CARRIED.get(claim)] == []


def test_every_marker_names_a_claim_of_security_md() -> None:
    assert set(CARRIED) <= set(LISTED)


def test_no_claim_is_listed_twice() -> None:
    text = claims.SOURCE.read_text(encoding="utf-8")
    rows = [row["id"] for row in map(claims.ROW.match, text.splitlines()) if row]
    assert rows == LISTED


def test_a_number_that_no_claim_has_is_said_to_be_none() -> None:
    """Else a reader of DP-11 and DP-13 looks for what stood between them."""
    numbers: dict[str, set[int]] = {}
    for claim in LISTED:
        of, _, number = claim.partition("-")
        numbers.setdefault(of, set()).add(int(number))
    lacking = {f"{of}-{one}" for of, held in numbers.items() for one in range(1, max(held)) if one not in held}
    (said,) = re.findall(r"^tests\. There is no (.+)\.$", claims.SOURCE.read_text(encoding="utf-8"), re.M)
    assert set(re.split(", | and ", said)) == lacking


def test_claims_md_is_what_the_script_writes() -> None:
    assert claims.FILE.read_text(encoding="utf-8") == claims.page(), "python -m tools.claims"
