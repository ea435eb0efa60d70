"""What of an update is sent: nominated coordinates, a public subspace, or whole steps of noise and all."""
