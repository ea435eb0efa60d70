"""What people touch: one file a verb, a package a group of verbs; `main` makes every end an exit status.

`output` holds the only print. `verbs` loads a verb when it is called.
"""
