"""The actions of a round: one row of the specification, one file."""
