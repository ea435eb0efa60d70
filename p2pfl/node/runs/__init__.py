"""What a node sums in a run: one statistic (sums.py), or a training, round after round (training.py)."""
