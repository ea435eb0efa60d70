"""Every link of a document leads to a file that is here, and to a heading of it where it names one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(one for name in ("docs", "examples") for one in sorted((ROOT / name).rglob("*.md"))),
]
LINK = re.compile(r"\]\((?!https?:)(?P<file>[^)#\s]*)(?:#(?P<heading>[^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings: lower case, punctuation dropped, a hyphen for each blank."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken(document: Path) -> list[str]:
    found = []
    for link in LINK.finditer(FENCED.sub("", document.read_text(encoding="utf-8"))):
        target = (document.parent / link["file"]).resolve() if link["file"] else document
        if not target.exists() or (link["heading"] and link["heading"] not in anchors(target.read_text())):
            found.append(link[0])
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(one.relative_to(ROOT)) for one in DOCUMENTS])
def test_every_link_leads_somewhere(document: Path) -> None:
    assert broken(document) == []


def test_a_link_to_no_file_and_to_no_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.txt"
    page.write_text("# One thing, `p2pfl doctor`\n[a](#one-thing-p2pfl-doctor) [b](#two) [c](page.txt) [d](gone.txt)\n")
    assert broken(page) == ["](#two)", "](gone.txt)"]
