"""What a pass costs: mechanisms, ε of their history, the accounts of a home, and what a budget buys."""
