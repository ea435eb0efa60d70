"""Examples of every command, for its help, its manual page and the reference; a test parses each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# What each kind of question is asked with; `stats KIND` adds the records, `stats propose KIND` the file.
QUESTIONS: Final[Mapping[str, str]] = {
    "describe": "--columns age,sex,bmi",
    "table-one": "--group readmitted --columns age,sex,bmi --complete",
    "histogram": "--column age --edges 20:100:8",
    "quantiles": "--column age --probabilities 0.25,0.5,0.75",
    "crosstab": "--rows smoker --columns readmitted",
    "correlation": "--columns age,bmi,hba1c --method spearman --bins 32",
    "ttest": "--column bmi --group sex",
    "anova": "--column bmi --group stage",
    "km": "--time months --event died --positive dead --grid 6,12,24,36,48",
    "logrank": "--time months --event died --positive dead --grid 6,12,24,36,48 --group smoker",
    "linear": "--outcome hba1c --covariates age,sex,bmi",
    "logistic": "--outcome readmitted --positive yes --covariates age,sex,bmi",
    "poisson": "--outcome admissions --covariates age,sex --exposure months",
    "cox": "--time months --event died --positive dead --covariates age,smoker --grid 6,12,24,36,48",
    "roc": "--score risk --outcome readmitted --positive yes --edges 0.1,0.2,0.3,0.5",
    "calibration": "--score risk --outcome readmitted --positive yes --edges 0.1,0.2,0.3,0.5",
    "meta": "--measure difference --column bmi --group smoker --levels yes,no",
}

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "demo": ("demo", "demo --peers 4 --kill hungary@3"),
    "init": (
        "init --name oslo --listen oslo.example:7443 --recovery-words",
        "init --name oslo --listen 0.0.0.0:7443 --address oslo.example:7443 --credential",
    ),
    "peers create": ("peers create *.card -o peers.yaml --name readmission --task task.yaml --set rounds=6",),
    "peers show": ("peers show peers.yaml",),
    "peers diff": ("peers diff from-bergen.yaml", "peers diff bergen --peers peers.yaml"),
    "peers fingerprint": ("peers fingerprint bergen.card", "peers fingerprint bergen --peers peers.yaml"),
    "peers propose": ("peers propose add dan.card -o add-dan.change", "peers propose remove bergen -o out.change"),
    "peers approve": ("peers approve add-dan.change",),
    "peers accept": ("peers accept add-dan.change",),
    "peers adopt": ("peers adopt add-dan.change -o peers-2.yaml",),
    "peers new-key": ("peers new-key -o oslo.next.card",),
    "peers revoke": ("peers revoke bergen", "peers revoke bergen --undo"),
    "task draft": ("task draft records.csv -o task.yaml --label readmitted",),
    "task new": ("task new Readmission",),
    "task check": ("task check task.yaml --data records.csv", "task check --peers peers.yaml --data records.csv"),
    "task review": ("task review readmission.py",),
    "task approve": ("task approve readmission.py",),
    "privacy plan": (
        "privacy plan --epsilon 3 --records 110 --rounds 6 --steps 40",
        "privacy plan --epsilon 3 --records 110 --noise distributed --sites 5",
    ),
    "join": ("join --data records.csv", "join --data records.csv --check", "join --data records.csv --log join.log"),
    "run": ("run --flower client:app", "run --sklearn client:site --write-first first.safetensors"),
    "sum": ("sum --value -", "sum --csv records.csv --column age --stat mean"),
    "stats ask": ("stats ask question.yaml --data records.csv",),
    "stats approve": ("stats approve question.yaml", "stats approve --standing describe,km"),
    "stats show": ("stats show",),
    "doctor": ("doctor", "doctor --wait 300"),
    "status": ("status", "status --home /var/lib/p2pfl/oslo --json"),
    "studies": ("studies",),
    "ledger verify": ("ledger verify",),
    "ledger show": ("ledger show --last 20", "ledger show --log site"),
    "ledger export": ("ledger export -o oslo.json --with-verifier",),
    "ledger compare": ("ledger compare oslo.json bergen.json",),
    "ledger evidence": ("ledger evidence", "ledger evidence --check proof.evidence --peers peers.yaml"),
    "withdraw": ("withdraw --patients names.txt", "withdraw --data withdrawn.csv --peers peers.yaml"),
    "retention show": ("retention show",),
    "retention set": ("retention set models 10",),
    "retention prune": ("retention prune --dry-run",),
    "keys list": ("keys list",),
    "keys add": ("keys add --new-pass-phrase", "keys add --new-recovery-words"),
    "keys remove": ("keys remove 5f1c22e0",),
    "keys rotate": ("keys rotate 5f1c22e0 --keep-old before.key",),
    "model export": ("model export -o readmission.safetensors",),
    "model show": ("model show readmission.safetensors",),
    "model weights": ("model weights readmission.safetensors --csv weights.csv",),
    "dashboard": ("dashboard", "dashboard --port 8443 --token-file link"),
    "report": ("report --audit -o readmission.html", "report --json"),
    "predict": ("predict --data new.csv", "predict --model readmission.safetensors --data new.csv --id case"),
    "simulate": (
        "simulate --task task.yaml --data public.csv --split 3 --rounds 4 --seeds 3",
        "simulate --sites 10,100 --rounds 20 --parameters 1000000 --plot forecast.svg",
    ),
    "help": ("help join", "help P2P-MESH-003"),
    "version": ("version",),
    "man": ("man -o ~/.local/share/man/man1",),
    "completion": ("completion bash --install",),
    **{f"stats {kind}": (f"stats {kind} {asked} --data records.csv",) for kind, asked in QUESTIONS.items()},
    **{
        f"stats propose {kind}": (f"stats propose {kind} {asked} -o question.yaml",)
        for kind, asked in QUESTIONS.items()
    },
}


def examples_of(path: str) -> tuple[str, ...]:
    """Whole lines, of a command as click calls it: `p2pfl peers create`."""
    return tuple(f"p2pfl {line}" for line in EXAMPLES.get(path.partition(" ")[2], ()))
