"""What is cached over time and what replaces what, and how often look-ups hit, as a running front-end tells it."""
