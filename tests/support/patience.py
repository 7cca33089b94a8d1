"""How long a test waits for what must come."""

PATIENCE_S = 120.0
"""Far more than it takes: no test depends on speed, and a machine may be busy with other things."""
