"""The built-in tasks, each in its own file; `p2pfl.training.task.built_in` finds them by name."""
