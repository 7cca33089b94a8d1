"""What the services share: models, errors, settings, HTTP, batching, digests and the outside world."""
