"""Chaos on real processes: under load, one random fault after the other, and the checkers at the end."""
