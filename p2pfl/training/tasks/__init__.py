"""The tasks that ship: tables by a description, and the description of the default one."""
