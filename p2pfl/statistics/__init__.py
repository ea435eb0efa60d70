"""Statistics over the tables of several sites: pure, sans-I/O, each site alike. Nothing is opened but sums and, for
`meta`, what a site that agrees to it shows of its own.

question.py is what the rest of p2pfl sees of this place. docs/spec/statistics.md says what each statistic sums.
"""
