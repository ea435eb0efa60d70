"""Clients that a site brings of its own (Flower, MONAI, scikit-learn), unchanged, as a trainer of a run."""
