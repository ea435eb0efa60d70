"""A site's records: read from its own files, one unit each, split into trained and held out, drawn for a step."""
