"""Write the generated pages of docs/reference: python -m tools.reference [--check]."""

from __future__ import annotations

import sys

from tools.reference.pages import FOLDER, PAGES


def main() -> int:
    made = {FOLDER / name: page().encode() for name, page in PAGES.items()}
    if "--check" in sys.argv:
        return int(any(not file.is_file() or file.read_bytes() != text for file, text in made.items()))
    for file, text in made.items():
        file.write_bytes(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
