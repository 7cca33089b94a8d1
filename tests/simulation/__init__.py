"""A whole bazaar in one process, under simulated time, network and disk, driven by one seed."""
