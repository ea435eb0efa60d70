"""What a ledger says, for people who have to sign: facts of a home, and one page of them."""
