"""How long tests wait for other processes."""

PATIENCE = 900  # seconds without an end after which a process hangs: a busy machine is slow, and never that slow
