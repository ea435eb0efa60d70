"""A page of this machine alone, beside a site: what it does at this moment, and what its ledger says."""
