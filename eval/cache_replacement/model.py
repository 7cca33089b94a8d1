"""The cache by the book: least recently used, emptied of what was traded. A check on what the front-end says."""

from collections import OrderedDict
from collections.abc import Iterable

from eval.cache_replacement.requests import Request


class ModelCache:
    """Names, least recently used first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: OrderedDict[str, None] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """What it holds, least recently used first."""
        return list(self._names)

    def reset(self, names: Iterable[str]) -> None:
        """Hold these."""
        self._names = OrderedDict.fromkeys(names)

    def take(self, request: Request) -> bool:
        """Do what the request does to a cache; whether it is a hit."""
        if request.trade is not None:
            self._names.pop(request.name, None)
            return False
        is_hit = request.name in self._names
        self._names[request.name] = None
        self._names.move_to_end(request.name)
        if len(self._names) > self._capacity:
            self._names.popitem(last=False)
        return is_hit
