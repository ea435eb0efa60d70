"""`p2pfl stats`: statistics over the tables of all sites; no site sees another's table."""

from __future__ import annotations

import click

from p2pfl.cli.verbs import Verbs

KINDS = {
    "describe": "Each column by itself: count, missing, mean, variance, levels.",
    "table-one": "The columns by group, side by side.",
    "histogram": "How many values lie in each interval.",
    "quantiles": "The median, quartiles or others, to a stated error.",
    "crosstab": "A table of two columns of codes, with its chi-squared test.",
    "correlation": "How pairs of numbers go together.",
    "ttest": "Whether a number differs between two groups.",
    "anova": "Whether a number differs between several groups.",
    "km": "The Kaplan-Meier curve, on an agreed grid of times.",
    "logrank": "Whether survival differs between groups.",
    "linear": "Linear regression.",
    "logistic": "Logistic regression.",
    "poisson": "Poisson regression.",
    "cox": "Cox regression, on an agreed grid of times.",
    "roc": "The ROC curve of an existing score.",
    "calibration": "Whether an existing score's probabilities come true.",
    "meta": "The sites' own estimates put together, of those that agree to show theirs.",
}
VERBS = {
    "propose": "Write a question to a file, for the other sites to approve.",
    "approve": "Say that a question may be asked of this site's records; or any of some kinds.",
    "ask": "Ask a question that is written in a file.",
    "show": "What may be asked here, what was approved, how many questions were asked.",
    **KINDS,
}
CHAPTERS = {
    "A question, from hand to hand": "propose",
    "A question that all sites type, once it is approved": "describe",
}


class StatsVerbs(Verbs):
    """A kind of question is a command made from what the question needs; the other verbs are modules."""

    def _made(self, verb: str) -> click.Command:
        if verb in KINDS:
            from p2pfl.cli.stats.kinds import asking_command

            return asking_command(verb)
        return super()._made(verb)


stats = StatsVerbs(
    "stats",
    "p2pfl.cli.stats",
    VERBS,
    chapters=CHAPTERS,
    text="Statistics over the tables of all sites, of which nothing is opened but sums and, for meta, the estimates "
    "of sites that agree to that. All questions about the same records are over one set of sites. Records of which "
    "one has changed are new ones, and no program can tell: an answer before and one after tell the change; or roughly "
    "what a site put in, if it was away from one of them.",
)
