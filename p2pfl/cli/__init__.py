"""What people touch: one file per verb; `main` makes every end an exit status; `output` holds the only print."""
