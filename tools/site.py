"""Makes a site of the manual (mkdocs.yml): pages that lie beside docs/, links that stay inside.

mkdocs calls the functions named `on_…`. A link to a page of the site leads there from wherever that page comes; a link
to anything else of the repository becomes its text, since the site has no repository behind it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parents[1]
# By place in the repository, the page of the site that it is, without its suffix.
BESIDE: Final = {
    "README.md": "index",
    "ARCHITECTURE.md": "ARCHITECTURE",
    "SECURITY.md": "SECURITY",
    "CONTRIBUTING.md": "CONTRIBUTING",
    "CHANGELOG.md": "CHANGELOG",
    "examples/README.md": "examples",
}
FOLDERS: Final = {"docs/adr": "adr/README", "docs/spec": "spec/sharing", "docs/guide": "guide/README"}
WIDER: Final = ".md-grid { max-width: 86rem; }\n"  # what a terminal shows is 100 characters wide
LINK: Final = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FILE: Final = re.compile(r"[\w/.-]+\.md")  # a link that is called by the file it leads to
FENCE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_config(config: Any) -> Any:
    """All pages of the specification stand in the navigation, whatever their names."""
    pages = sorted(f"spec/{page.name}" for page in (ROOT / "docs/spec").glob("*.md"))
    config["nav"] = _put(config["nav"], pages)
    return config


def _put(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, list):
        return [_put(one, pages) for one in nav]
    if isinstance(nav, dict):
        return {name: pages if held == "SPEC" else _put(held, pages) for name, held in nav.items()}
    return nav


def on_files(files: Files, config: Any) -> Files:
    """The pages beside docs/, and a style."""
    for place, page in BESIDE.items():
        files.append(File.generated(config, f"{page}.md", content=(ROOT / place).read_text(encoding="utf-8")))
    files.append(File.generated(config, "site.css", content=WIDER))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are to be in the site; what stands in a fence is left alone."""
    here = page.file.src_uri
    place = next((one for one, shown in BESIDE.items() if f"{shown}.md" == here), f"docs/{here}")
    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_relinked(markdown[last : fence.start()], place, here), fence.group()]
        last = fence.end()
    return "".join([*parts, _relinked(markdown[last:], place, here)])


def _relinked(text: str, place: str, here: str) -> str:
    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        path, _, anchor = target.partition("#")
        if "://" in target or not path:
            return found.group()
        to = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        page = _page(to)
        if page is None:
            return words
        if FILE.fullmatch(words):
            words = _title(to) or words
        led = posixpath.relpath(page, posixpath.dirname(here) or ".")
        return f"[{words}]({led}{'#' + anchor if anchor else ''})"

    return LINK.sub(link, text)


def _title(place: str) -> str | None:
    """What stands above a page of the repository: a reader of the site knows no files."""
    file = ROOT / place
    first = file.read_text(encoding="utf-8").partition("\n")[0] if file.is_file() else ""
    return first.removeprefix("# ") if first.startswith("# ") else None


def _page(place: str) -> str | None:
    """The page of the site that a file or folder of the repository is; None for none."""
    if place in BESIDE or place in FOLDERS:
        return f"{BESIDE.get(place) or FOLDERS[place]}.md"
    inside = place.removeprefix("docs/")
    return inside if inside != place and (ROOT / place).is_file() else None
