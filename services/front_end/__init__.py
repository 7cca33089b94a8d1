"""The front-end: the public API, a cache of stocks that is never stale, and the choice of a leader."""
