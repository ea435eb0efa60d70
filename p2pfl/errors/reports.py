"""Reports and the dashboard: what keeps one from being written, or shown."""

from __future__ import annotations

from p2pfl.errors import ConfigurationError, LocalFault


class ReportLibraryMissing(LocalFault):
    """A report's page needs packages that are not installed here."""

    code = "P2P-REPORT-001"
    likely = (
        "the extra [report] was left out when p2pfl was installed from its checkout: install it there",
        "the facts alone, as --json prints them, need none of them",
    )
    command = "pip install '.[report]'"


class DashboardLibraryMissing(LocalFault):
    """The dashboard needs packages that are not installed here."""

    code = "P2P-REPORT-002"
    likely = (
        "the extra [dashboard] was left out when p2pfl was installed from its checkout: install it there",
        "p2pfl status tells most of it, and needs none of them",
    )
    command = "pip install '.[dashboard]'"


class DashboardPortBusy(LocalFault):
    """The dashboard cannot be shown at {place}."""

    code = "P2P-REPORT-003"
    likely = ("another program has the port", "another dashboard on this machine has it")
    command = "ss -ltnp 'sport = :{port}'"


class NowhereToShowTheLink(ConfigurationError):
    """There is no terminal at which the dashboard's link could be shown to one person alone."""

    code = "P2P-REPORT-004"
    likely = ("it runs as a service, in a script, or with its output in a file",)
    command = "p2pfl dashboard --token-file dashboard.link"
