"""The bazaar's story in half a minute: it starts, trades, loses its leader, heals, and proves that nothing is lost."""
