"""Training computes: a site's records ► a private update; the mean of updates ► the next model.

Flat float32 vectors of numpy cross this room's door, never a torch tensor. Nothing here knows of peers' links, of the
secure sum or of the disk. Randomness is a `keys.Draw`, which the node hands in.
"""
