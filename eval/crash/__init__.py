"""Replicas are killed under the lab's clients and brought back: what the clients notice, and what the disks hold."""
