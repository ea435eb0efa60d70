"""Three real processes under `privacy: none`: the agreed task by plain SGD, and what each says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.sites import Sites, Start, ended, facts, said


@pytest.mark.claim("PLAIN-1")
def test_a_training_without_privacy_learns_and_is_told_as_that_everywhere(tmp_path: Path, start: Start) -> None:
    sites = Sites(tmp_path, "privacy=none", "rounds=2")
    processes = [start(*sites.join(name, "--json")) for name in sites.names]
    assert "NONE: trained without differential privacy" in said(processes[0], "privacy:")
    results = [ended(process) for process in processes]
    assert [status for status, _, _ in results] == [0, 0, 0], [err for _, _, err in results]
    assert all("NO privacy" in err and "ε" not in err.replace("ε is unbounded", "") for _, _, err in results)
    told = [facts(out) for _, out, _ in results]
    assert [(one["privacy"], one["epsilon"], one["max_epsilon"]) for one in told] == [("none", None, None)] * 3
    assert all(one["metric"]["final"] > 0.8 and one["ledger"]["verified"] for one in told)  # type: ignore[index]
    home = ["--home", str(tmp_path / sites.names[0] / "home")]
    status, out, _ = ended(start("status", *home, "--json"))
    assert status == 0 and facts(out)["privacy"]["epsilon"] is None  # type: ignore[index]
    status, out, _ = ended(start("peers", "show", str(sites.peers)))
    assert status == 0 and "privacy      NONE: trained without differential privacy" in out
