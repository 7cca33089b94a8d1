"""The network between the processes of a bazaar, as far as an experiment can cut it: a link for each caller and target.

Clients speak to the front-ends without it.
"""

from collections.abc import Collection, Iterator

from eval.chaos.proxy import Link
from eval.chaos.scenarios import Direction
from services.cluster.topology import Cluster, Kind, Routes, Service, port_of

CALLS: dict[Kind, tuple[Kind, ...]] = {
    "front-end": ("catalog", "order"),
    "order": ("catalog", "order"),
    "catalog": ("order", "front-end"),
}
"""Who calls whom."""


class Network:
    """A link for each ordered pair of processes of which the first one calls the second."""

    def __init__(self, cluster: Cluster) -> None:
        self.links = {
            (caller.name, target.name): Link(port_of(target.internal_url)) for caller, target in pairs(cluster)
        }

    async def open(self) -> Routes:
        """Listen everywhere; gives the addresses that the processes are to use."""
        routes: Routes = {}
        for (caller, target), link in self.links.items():
            routes.setdefault(caller, {})[target] = await link.open()
        return routes

    def cut(self, side: Collection[str], others: Collection[str], direction: Direction) -> None:
        """Stop what `side` sends to `others` (out), what those send to it (in), or both.

        An answer travels against its request: what is sent to a target is requests, what it sends is answers.
        """
        is_out, is_in = direction in {"out", "both"}, direction in {"in", "both"}
        for (caller, target), link in self.links.items():
            if caller in side and target in others:
                link.cut(requests=is_out, answers=is_in)
            elif caller in others and target in side:
                link.cut(requests=is_in, answers=is_out)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        for link in self.links.values():
            link.heal()

    async def close(self) -> None:
        """Let go of everything."""
        for link in self.links.values():
            await link.close()


def pairs(cluster: Cluster) -> Iterator[tuple[Service, Service]]:
    """Callers with their targets."""
    for caller in cluster.services:
        for target in cluster.services:
            if caller != target and target.kind in CALLS[caller.kind]:
                yield caller, target
