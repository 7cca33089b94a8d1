"""What the machine costs, by the price list of us-east-1 as of 2025. To be checked before anyone relies on it."""

MACHINE_TYPE = "m5a.xlarge"
REGION = "us-east-1"
VOLUME_GB = 16

MACHINE_USD_PER_HOUR = 0.172
VOLUME_USD_PER_GB_MONTH = 0.08  # gp3
ADDRESS_USD_PER_HOUR = 0.005  # any public IPv4 address
HOURS_PER_MONTH = 730

USD_PER_HOUR = MACHINE_USD_PER_HOUR + VOLUME_GB * VOLUME_USD_PER_GB_MONTH / HOURS_PER_MONTH + ADDRESS_USD_PER_HOUR


def cost_usd(hours: float) -> float:
    """What so many hours cost, traffic aside."""
    return hours * USD_PER_HOUR


def describe_cost(hours: int) -> str:
    """The cost in words, before it arises."""
    return (
        f"cost: about {USD_PER_HOUR:.2f} USD an hour ({MACHINE_TYPE} {MACHINE_USD_PER_HOUR}, "
        f"{VOLUME_GB} GB of gp3 {VOLUME_USD_PER_GB_MONTH} a GB and month, public address {ADDRESS_USD_PER_HOUR}), "
        f"at most {cost_usd(hours):.2f} USD in {hours} hours; then the machine ends by itself. "
        f"Prices of {REGION} as of 2025, traffic not counted: check them"
    )
