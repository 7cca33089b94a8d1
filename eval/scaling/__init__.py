"""What it would take to go further: a simulation of several shards, fed with what one shard was measured to cost."""
