"""What the dashboard shows of a home at one moment, as plain values. Reads, and writes nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from p2pfl import codec
from p2pfl.cli import output
from p2pfl.cli.dashboard.questions import ProposedHere, as_argument
from p2pfl.cli.faults import mistake
from p2pfl.cli.output import amount
from p2pfl.cli.status import worker
from p2pfl.cli.status_links import links_told
from p2pfl.cli.watch import label_of
from p2pfl.dashboard.charts import chart
from p2pfl.errors import P2PFLError
from p2pfl.errors.counts import counted
from p2pfl.federation import Federation
from p2pfl.home import Home
from p2pfl.ledger import entry as entries
from p2pfl.ledger.log import Log
from p2pfl.ledger.witness import HeldNotes
from p2pfl.node import link_status
from p2pfl.node.approvals import approved
from p2pfl.node.epochs import AGREED, held_change
from p2pfl.node.live import Row, read_traffic
from p2pfl.node.other_logs import OtherLogs
from p2pfl.node.question_file import called
from p2pfl.node.questions import approvals
from p2pfl.report.reported import LedgerFacts, ReportedRound
from p2pfl.report.study import Beside, StudyReport, report_of
from p2pfl.sharing.state import Phase

PHASES: Final = tuple(one.value for one in Phase)
MOST_FAULTS: Final = 5  # findings that the page shows; `ledger verify` has all
LAST: Final = 5  # rounds that the page lists
AGAIN_S: Final = 5.0  # seconds between verifications of a ledger that grows


class HomeView:
    """The home, looked at again and again. A ledger is verified anew when a file of it has changed."""

    def __init__(self, home: Home, proposed: ProposedHere | None = None) -> None:
        """proposed: where proposals of other sites lie; None: nobody looks for any."""
        self._home, self._proposed = home, proposed
        self._logs = OtherLogs()
        self._told = ""  # the mistake that was said last
        self._stamp: tuple[object, ...] = ()
        self._verified_at = float("-inf")
        self._report: StudyReport | None = None

    def look(self) -> dict[str, Any]:
        """What `dashboard/templates/view.html` shows, under the one name `v`; or `failed`, why there is nothing.

        What is damaged or cannot be read just now is said on the page, and looked at again: the home may be mended.
        """
        try:
            return self._seen()
        except P2PFLError as error:
            told = error
        except Exception as error:
            told = mistake(error)
            if (line := f"{told.happened} {told.evidence}") != self._told:
                self._told = line
                output.progress(line)
        shown = {name: getattr(told, name) for name in ("happened", "code", "evidence", "suggestion")}
        return {"failed": {"site": self._home.name, **shown}}

    def _seen(self) -> dict[str, Any]:
        report, home = self._ledger(), self._home
        process, seen = worker(home.folder), link_status.read(home)
        live = seen is not None and link_status.is_there(seen, process)
        rows = read_traffic(home)
        return {
            "v": {
                "site": home.name,
                "fingerprint": report.fingerprint,
                "process": process if live or seen is None else None,
                "federation": report.ledger.federation,
                "epoch": report.ledger.epoch,
                "verified": report.verified,
                "faults": [f"{one}." for one in report.verification.findings if one.fault][:MOST_FAULTS],
                "entries": report.verification.federation.entries,
                "own_entries": report.verification.site.entries,
                "root": report.verification.federation.root.hex(),
                "phases": PHASES,
                "now": _now(seen) if seen is not None and live else None,
                "links": [_link(one) for one in links_told(seen, live)["peers"]] if seen is not None else [],
                "members": [_member(one) for one in report.ledger.sites if one.member],
                "rounds": [_line(one, report.ledger) for one in report.ledger.rounds[-LAST:]],
                "approvals": self._approvals(),
                **_figures(report.ledger),
                **_traffic(rows, report.dense_bytes),
            }
        }

    def _ledger(self) -> StudyReport:
        """The verified ledger; the one before while it grows, for AGAIN_S at most."""
        stamp, now = self._files(), time.monotonic()
        if self._report is None or (stamp != self._stamp and now - self._verified_at >= AGAIN_S):
            self._report = report_of(self._home, HeldNotes(), Beside(), "", "", audit=False)
            self._stamp, self._verified_at = stamp, time.monotonic()
        return self._report

    def _files(self) -> tuple[object, ...]:
        found = []
        for file in sorted((self._home.folder / "ledger").rglob("*")):
            try:
                held = file.stat()
            except OSError:
                continue
            found.append((str(file), held.st_size, held.st_mtime_ns))
        return tuple(found)

    def _approvals(self) -> list[dict[str, str]]:
        """What waits for a person here, and the command that answers it."""
        home, found = self._home, list[dict[str, str]]()
        try:
            held = home.read(AGREED)
            federation = Federation.parse(held, "peers.yaml in this home") if held is not None else None
            if federation is None:
                return []
            task = federation.task
            if task.sha256 is not None and task.sha256 not in approved(home):
                what = f"the task {task.label} runs on this site's records once its file was read and approved"
                found.append({"what": what, "command": _review(task.file or "FILE", home)})
            change = held_change(home)
            if change is not None and change.facts["epoch"] > federation.roster.epoch:
                begins = "was approved by enough sites, and begins after one of the next rounds"
                found.append({"what": f"epoch {change.facts['epoch']} {begins}", "command": ""})
            if self._proposed is not None:
                found += self._proposed.waiting(home, federation)
            study = self._proposed.where(home) if self._proposed is not None else ["--home", str(home.path)]
            log = self._logs.log(home, "site")
            found += _not_asked(
                home, log, shlex.join(["p2pfl", "stats", "ask", "QUESTION.yaml", "--data", "DATA", *study])
            )
        except (P2PFLError, ValueError):
            pass  # what is damaged is told by verification, or when the site starts
        return found


def _review(file: str, home: Home) -> str:
    """The command that shows the task's file."""
    return shlex.join(["p2pfl", "task", "review", as_argument(file), "--home", str(home.path)])


def _not_asked(home: Home, log: Log, command: str) -> list[dict[str, str]]:
    """Questions that this site's people approved, and that no process here has asked yet, by the site log."""
    site = (entries.read_record(one.record) for one in log.records() if b'"stats ask"' in one.record)
    asked = {held["options"].get("question") for held in site if held["kind"] == "operator"}
    waiting = [(name, told) for name, told in approvals(home).questions.items() if name.hex() not in asked]
    return [
        {
            "what": f"approved here, and not asked yet: {called(codec.read_facts(told))[:200]}",
            "command": command,
        }
        for _, told in waiting
    ]


def _now(seen: Mapping[str, Any]) -> dict[str, Any] | None:
    """The round under way, as the process showed it last."""
    held = seen.get("now")
    if not held:
        return None
    phase = str(held["phase"])
    doing = "This site trains on its records" if held["training"] else _doing(phase)
    names = sorted({*held["missing"], *held["silent"]})
    waits = [{"site": name, "why": _why(name, held)} for name in names]
    since = entries.utc_text(held["since"])
    return {
        **{key: held[key] for key in ("round", "attempt")},
        "phase": phase,
        "doing": doing,
        "since": since,
        "waits": waits,
    }


def _doing(phase: str) -> str:
    if phase == Phase.FINAL.value:
        return "Final, and in the ledger,"
    return f"In {phase}" if phase else "Between two attempts"


def _why(name: str, held: Mapping[str, Any]) -> str:
    owed = held["missing"].get(name)
    if name in held["silent"] and held["silent"][name] is None:
        return "it was never seen"
    if name in held["silent"] and held["looked"] is not None:
        heard = f"last heard {entries.utc_text(held['looked'] - held['silent'][name])}"
        return f"{owed} has not come; {heard}" if owed else heard
    return f"{owed or 'its next message'} has not come"


def _link(one: Mapping[str, Any]) -> dict[str, Any]:
    trip, path = one["round_trip_ms"], one["path"]
    return {
        "peer": one["peer"],
        "up": one["up"],
        "error": one["error"],
        "path": f"relay {one['via']}" if path == "relay" else path or "–",
        "since": one["since"],
        "trip": "–" if trip is None else f"{trip:.1f} ms",
        "sent": amount(one["bytes_sent"]),
        "received": amount(one["bytes_received"]),
        "heard": one["last_seen"] or "never",
    }


def _member(one: Any) -> dict[str, Any]:
    spent = "–" if not one.charged else "unbounded" if one.epsilon is None else f"{one.epsilon:.2f}"
    return {"name": one.name, "fingerprint": one.fingerprint, "in_rounds": one.in_rounds, "epsilon": spent}


def _line(one: ReportedRound, ledger: LedgerFacts) -> str:
    everybody = len(ledger.epochs.get(one.epoch, ()))
    of = f"“{one.name}”" if one.name else one.purpose
    return (
        f"{one.at}  round {one.round}, {of}: {len(one.survivors)} of {everybody} sites, signed by {len(one.signed_by)}"
    )


def _figures(ledger: LedgerFacts) -> dict[str, Any]:
    """The metric's and ε's curves."""
    points = [(at, one.value, one.low, one.high) for at, one in ledger.metric_by_rounds]
    spent = [(at, most, least, most) for at, most, least in ledger.epsilon_by_rounds]
    private, name = ledger.privacy, label_of(ledger.metric)[:60] if points else ""
    limit = private.max_epsilon if private is not None else None
    plain = private is not None and private.unit == "none"
    return {
        "metric_name": name or "Metric",
        "metric": chart(points, name),
        "metric_last": _last_measured(points[-1][1], points[-1][0], ledger.count_trained) if points else "",
        "metric_why": ledger.trained[-1].unmeasured if ledger.trained else "",
        "epsilon": chart(spent, "ε spent", limit, 0.0),
        "epsilon_last": f"ε {spent[-1][1]:.2f}" if spent else "",
        "epsilon_why": "The sites agreed to train without differential privacy: ε is unbounded."
        if plain
        else "Nothing is spent yet.",
    }


def _last_measured(value: float, model: int, trained: int) -> str:
    """The last figure, and which model it is of: that after so many rounds of `trained`."""
    return f"{value:.3f}" if model == trained else f"{value:.3f} after {model} of {counted(trained, 'round')}"


def _traffic(rows: Sequence[Row], dense: float) -> dict[str, Any]:
    points = [(at, row[2] / 1000, None, None) for at, row in enumerate(rows, start=1)]
    since = ", since it was taken up" if rows and rows[-1][4] else ""
    return {
        "traffic": chart(points, "kB sent by round", base=0.0),
        "traffic_last": f"{amount(rows[-1][2])} in the last round{since}" if rows else "",
        "dense": f"A dense fp32 all-reduce would send {amount(dense)} in one of training." if dense else "",
    }
