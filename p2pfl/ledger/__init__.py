"""ledger remembers: two append-only logs, encrypted at rest, checkable by anyone. docs/spec/ledger.md."""
