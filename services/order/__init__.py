"""The order service: remembers every decided trade on every replica before its customer hears of it."""
