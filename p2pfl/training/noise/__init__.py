"""Noise of a keystream: uniform, Gaussian, and discrete Gaussian draws; whole steps of a grid. Loads no torch."""
