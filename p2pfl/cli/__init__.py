"""What people touch: one file a verb, a package for a group or a large one; `main` makes every end an exit status.

`output` holds the only print. `verbs` loads a verb when it is called.
"""
