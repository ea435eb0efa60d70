"""How a model does on held-out records, as sums of integers over all sites."""
