"""One script for each promised ratio; `_report` prints them all alike."""
