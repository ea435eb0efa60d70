"""node: the only place where the rooms meet. It is imported by file, since `Node` itself loads torch and sockets."""
