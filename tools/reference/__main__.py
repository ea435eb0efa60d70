"""Write the generated pages of docs/reference: python -m tools.reference [--check]."""

from __future__ import annotations

import sys

from tools.reference.pages import FOLDER, PAGES
from tools.written import write_or_check


def main() -> int:
    return write_or_check({FOLDER / name: page() for name, page in PAGES.items()})


if __name__ == "__main__":
    sys.exit(main())
