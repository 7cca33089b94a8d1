"""Whose turn it is: the order in which one request asks the replicas. Plain values in, an id out."""

from collections.abc import Sequence


class Turns:
    """The turns of one request. In a round the leader comes first, then each other candidate once."""

    def __init__(self) -> None:
        self._leader: int | None = None  # at the time of the last attempt
        self._tried: set[int] = set()

    def next(self, leader: int | None, candidates: Sequence[int]) -> int | None:
        """The replica to ask now: the leader if it has changed, else the next that was not tried in this round.

        None: nobody is left, or nobody leads; pause, and a new round begins.
        """
        if leader is None:
            choice = None
        elif leader != self._leader or leader not in self._tried:
            choice = leader
        else:
            choice = next((replica_id for replica_id in candidates if replica_id not in self._tried), None)
        if choice is None:
            self._tried.clear()
        else:
            self._tried.add(choice)
            self._leader = leader
        return choice
