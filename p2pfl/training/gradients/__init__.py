"""A gradient for each record: from the layers' own inputs, projected or whole, clipped, summed, noised."""
