"""What is left of the cache's benefit when the clients are far away, and what it is then good for."""
