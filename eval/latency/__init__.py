"""Latency as clients see it, against the trade probability p, with the cache on and off."""
