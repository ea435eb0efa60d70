"""The room that decides: pure, no socket, file, clock, thread or random state. Events in, effects out.

A few functions of public, immutable values (letters, rosters, challenges) remember their last answers: they are
asked the same thing after every letter. The caches are bounded, hold no secret, and stand on the module, since
the answer is the same for every round and every simulated peer of a process.
"""
