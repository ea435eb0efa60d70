"""Statistics over the tables of several sites, of which nothing is opened but sums: pure, sans-I/O, each site alike.

question.py is what the rest of p2pfl sees of this place. docs/spec/statistics.md says what each statistic sums.
"""
