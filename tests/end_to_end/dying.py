"""`p2pfl` that dies, or is interrupted, at a step that it takes on its home's disk (`Fault` of site.py).

    python -m tests.end_to_end.dying '{"die": {"at": ["unlink", "state/pass", 2]}, "signal": "SIGINT"}' join …

A signal that a test sends when it has read a line comes later than the line, and on a busy machine much later.
"""

from __future__ import annotations

import functools
import json
import sys

from p2pfl.cli.main import main
from p2pfl.home import home as homes
from tests.end_to_end.site import Fault

if __name__ == "__main__":
    homes.Home.open = functools.partial(homes.Home.open, fault=Fault(json.loads(sys.argv[1])))  # type: ignore[method-assign]
    main(sys.argv[2:])
