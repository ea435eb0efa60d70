"""A running site, watched: its log, its metrics, and how it is stopped in the middle of a round."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.checks import rounds
from tests.end_to_end.conftest import MakeSites
from tests.ports import free_ports


def scraped(port: int) -> dict[tuple[str, str], float]:
    """By name and peer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return {
        (one.name, one.labels.get("peer", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.mark.claim("CLI-3", "SUM-6")
def test_log_and_metrics_of_a_sum_hold_no_secret_or_value(
    make: MakeSites,
) -> None:
    """Nor the name of a file."""
    sites = make(3)
    (port,) = free_ports(1)
    log = sites.place / "ada.jsonl"
    ada = sites.sum("ada", "731953142.42", "--log", log, "--log-level", "debug", "--metrics", port)
    ada.line("metrics at")
    found = scraped(port)
    assert (found[("p2pfl_link_up", "ben")], found[("p2pfl_link_up", "cyd")]) == (0, 0)
    with socket.socket() as other:  # loopback has many addresses, and one of them is asked for
        assert other.connect_ex(("127.0.0.2", port)) != 0
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    log.rename(sites.place / "ada.jsonl.1")
    ada.signal(signal.SIGHUP)
    started = [ada, *(sites.sum(name, value) for name, value in (("ben", "1.25"), ("cyd", "2.5")))]
    for process in started:
        ended = process.end()
        assert ended.status == 0, process.tail
        assert ended.facts["value"] == "731953146.17"
    for one in idle:
        one.close()
    text = (sites.place / "ada.jsonl.1").read_text() + log.read_text()
    told: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert (told[0]["event"], told[-1]["event"], told[-1]["status"]) == ("started", "ended", 0)
    assert {"listening", "link_up", "phase", "round"} <= {line["event"] for line in told}
    assert log.read_text(), "written after the log was moved away and the signal came"
    with sites["ada"].opened() as home:
        secrets = {home.identity().reveal().hex(), home.holdout_key().reveal().hex(), home.query_key().reveal().hex()}
    key = sites["ada"].key.read_text().split()[-1]
    for hidden in (*secrets, key, "731953142", "731953146", "ada.jsonl", str(sites.place), "site.key", "peers.yaml"):
        assert hidden not in text, hidden
    assert set(re.findall(r"[0-9a-f]{32,}", text)) <= {told[0]["federation_digest"]}


@pytest.mark.claim("LIVE-6")
def test_a_site_stopped_under_a_certificate_finishes_the_round_first(make: MakeSites) -> None:
    sites = make(3)
    ada = sites.sum("ada", 1, "--log", "-", "--log-level", "debug")
    others = [sites.sum(name, 2) for name in ("ben", "cyd")]
    ada.line('"phase": "unmask"')
    ada.signal(signal.SIGTERM)
    ended = ada.end()
    assert ended.status in (0, 130), ended.text  # 0: all of it was done before the signal was taken
    for process in others:
        assert process.end().facts["value"] == "5.00", process.tail
    assert len(rounds(sites["ada"], "sum")) == 1
    assert len(sites.roots()) == 1


def test_a_site_stopped_while_it_waits_ends_at_once_and_says_so(make: MakeSites) -> None:
    sites = make(3)
    ada = sites.sum("ada", 1, "--log", sites.place / "log")
    ada.line("listening")
    ada.signal(signal.SIGTERM)
    ended = ada.end()
    assert (ended.status, ended.said[-1]) == (130, "interrupted: nothing final is lost")
    last = json.loads((sites.place / "log").read_text().splitlines()[-1])
    assert (last["event"], last["status"], last["code"]) == ("ended", 130, "interrupted")
