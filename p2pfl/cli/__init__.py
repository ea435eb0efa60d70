"""What people touch: one file per verb; `main` turns errors into text and exit status; `output` holds the only print."""
