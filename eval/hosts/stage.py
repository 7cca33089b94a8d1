"""The run of `bazaar chaos --hosts`: three hosts, one after the other lost, and the checkers of every chaos run."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from eval.chaos.judge import judge, read_logs
from eval.chaos.run import ChaosSettings, Run
from eval.chaos.scenarios import Scenario
from eval.chaos.stage import World
from eval.history import Evidence, Operation
from eval.hosts.bazaar import HostsBazaar, running_hosts
from eval.hosts.layout import HOSTS
from eval.hosts.scenarios import draw
from services.common.errors import IntegrityFailure

PATIENCE_S = 60.0  # of a client: all hosts at once have to start on the cores of one machine

BOUND_S = 12.0
"""What may pass until every client trades again: etcd's election, 2 s or a little more, and meanwhile all else that is
waited for; then a client that finds one front-end after the other silent, 0.6 s each. The rest is for a machine on
which all hosts share a few cores."""


class ThreeHosts:
    """See `Stage`. found: the bazaar, also when it is gone."""

    patience_s = PATIENCE_S
    readers = 4
    bound_s: float | None = BOUND_S
    has_targets = False

    def __init__(self, seed: int, *, namespaces: bool) -> None:
        self._seed = seed
        self._namespaces = namespaces
        self.found: HostsBazaar | None = None

    def scenarios(self) -> Iterator[Scenario]:
        """See `Stage.scenarios`."""
        return draw(self._seed, with_cuts=self._namespaces)

    @asynccontextmanager
    async def bazaar(self, data_dir: Path) -> AsyncIterator[World]:
        """See `Stage.bazaar`."""
        async with running_hosts(data_dir, namespaces=self._namespaces) as self.found:
            yield self.found

    def problems_on_disk(self, data_dir: Path, operations: Sequence[Operation], quiet_since: float) -> list[str]:
        """See `Stage.problems_on_disk`. The stocks are those that the catalogs showed at rest: etcd is gone by now."""
        assert self.found is not None, "it has been there"
        files = {f"order-{host}": self.found.layout.data_dir(host) / f"order-{host}.db" for host in HOSTS}
        try:
            initial, logs = read_logs(files)
        except IntegrityFailure as failure:
            return [f"K4: {failure}"]
        return judge(Evidence(initial, logs, self.found.stocks, list(operations), {1: 0}, quiet_since), PATIENCE_S)


def on_three_hosts(rounds: int, seed: int, clients: int, *, namespaces: bool) -> Run:
    """A run on three hosts."""
    command = f"bazaar chaos --hosts --rounds {rounds} --seed {seed} --clients {clients}"
    settings = ChaosSettings(rounds, seed, clients, command + ("" if namespaces else " --no-namespaces"), "hosts")
    return Run(settings, ThreeHosts(seed, namespaces=namespaces))
