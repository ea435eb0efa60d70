"""Reports: what keeps one from being written."""

from __future__ import annotations

from p2pfl.errors import LocalFault


class ReportLibraryMissing(LocalFault):
    """A report's page needs packages that are not installed here."""

    code = "P2P-REPORT-001"
    likely = (
        "the extra [report] was left out when p2pfl was installed from its checkout: install it there",
        "the facts alone, as --json prints them, need none of them",
    )
    command = "pip install '.[report]'"
