"""The live view at the foot of a terminal. Loaded only where stderr is one; everybody else gets lines."""
