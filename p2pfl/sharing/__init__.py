"""The room that decides: pure, no socket, file, clock, thread or random state. Events in, effects out."""
