"""The catalog: owns prices and quantities, and decides every trade in one durable transaction."""
