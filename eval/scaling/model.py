"""The bazaar as a queueing model: who works how long for a trade, who waits for whom, and what travels together.

The rules are those of docs/design.md: a front-end has at most two batches under way to a leader, and begins the second
when it is as large as the first; a leader has one decision under way, and one append to each follower; the catalog
tells every front-end's cache before it commits; all copies are on their disks before the answer. Failures, refusals and
look-ups are left out.

How a process' cost is spread over its steps is an assumption (the fractions below); their sum is what was measured.
"""

from bisect import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Literal

from eval.scaling.costs import Costs
from eval.scaling.engine import Machine, Process, Simulation, Then
from services.common.models import MAX_TRADES
from services.front_end.forwarder import BATCHES_IN_FLIGHT

Numbers = Literal["one sequence", "blocks", "own sequences"]
"""one sequence: 1, 2, 3, ... over all shards, as one shard has it: each decision asks an allocator, which writes it
down. blocks: a catalog asks for a thousand numbers when half of its last thousand is used. own sequences: shard-number.
"""

Doors = Literal["all", "own"]
"""all: any front-end forwards to any shard, and every catalog tells every front-end. own: customers are sent, by the
stock, to front-ends that know one shard only.
"""

BLOCK = 1_000

# Fractions of a process' cost for each trade, and for each batch, in the order of its steps.
FRONT_END_TRADE = (0.5, 0.5)  # read the request; write the answer
FRONT_END_BATCH = (0.5, 0.5)  # send; read the answer
LEADER_TRADE = (0.3, 0.4, 0.3)  # read; take the entries and send them on; answer
LEADER_BATCH = (0.3, 0.5, 0.1, 0.1)  # ask the catalog; take and send on; each follower's word
CATALOG = (0.5, 0.5)  # decide; commit and answer


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One bazaar. delay_s: from one process to another in the same place; far_s: between two places.

    think_s: a customer's pause between an answer and the next trade, on average (exponential).
    cores: of the one machine on which everything runs, the load generator too; None: each process has its own.
    far: what is in the other place: some customers with a front-end (`customers`), the followers, the allocator.
    """

    shards: int = 1
    front_ends: int = 1
    connections: int = 1
    think_s: float = 0.0
    popularity: tuple[float, ...] = (1.0,)  # each shard's part of the trades
    numbers: Numbers = "own sequences"
    doors: Doors = "all"
    cores: int | None = None
    delay_s: float = 0.0
    far_s: float = 0.0
    far: frozenset[str] = frozenset()


@dataclass
class Batch:
    """Trades that a front-end sent together; `reply` is called when all are on every disk."""

    size: int
    reply: Then


@dataclass
class Outcome:
    """Seconds that trades took that were answered after the warm-up, by the place of their customers; and batches.

    Batches and order numbers are those of the whole time.
    """

    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    front_end_batches: list[int] = field(default_factory=list)
    leader_batches: list[int] = field(default_factory=list)
    numbers: list[tuple[int, int]] = field(default_factory=list)  # shard (0: one for all), number


class World:
    """All shards and front-ends of one setting, and the customers, who trade again as soon as they were answered."""

    def __init__(self, setting: Setting, costs: Costs, seed: int, warm_up_s: float) -> None:
        self.setting = setting
        self.costs = costs
        self.simulation = Simulation(seed)
        self.outcome = Outcome()
        self.machine = None if setting.cores is None else Machine(setting.cores)
        self.allocator = Allocator(self)
        self.front_ends = [FrontEnd(self, number) for number in range(setting.front_ends)]
        self.shards = [Shard(self, number) for number in range(setting.shards)]
        self._generator = self.process() if self.machine is not None else None
        self._bounds = list(accumulate(setting.popularity))
        self._warm_up_s = warm_up_s
        for number in range(setting.connections):
            self._think(number)

    def process(self) -> Process:
        """A new process."""
        return Process(self.simulation, self.machine)

    def send(self, then: Then, *, is_far: bool = False) -> None:
        """A message on its way."""
        delay = self.setting.far_s if is_far else self.setting.delay_s
        if delay:
            self.simulation.after(delay, then)
        else:
            then()

    def is_far(self, part: str, number: int = 0) -> bool:
        """Whether a part is in the other place; of customers and front-ends, every second one."""
        return part in self.setting.far and (part != "customers" or number % 2 == 1)

    def _think(self, connection: int) -> None:
        if self.setting.think_s:
            pause = self.simulation.random.expovariate(1 / self.setting.think_s)
            self.simulation.after(pause, partial(self._trade, connection))
        else:
            self._trade(connection)

    def _trade(self, connection: int) -> None:
        if self._generator is None:
            self._ask(connection)
        else:
            self._generator.do(self.costs.generator_us / 1e6, partial(self._ask, connection))

    def _ask(self, connection: int) -> None:
        shard = min(bisect(self._bounds, self.simulation.random.random()), self.setting.shards - 1)
        doors = self.doors_of(shard)
        # A customer knows a front-end in his own place; when there is none, he is far away from all.
        front_end = doors[connection % len(doors)]
        is_far = "door" in self.setting.far and connection % 2 == 1
        began = self.simulation.now

        def answered() -> None:
            if self.simulation.now >= self._warm_up_s:
                is_from_afar = is_far or self.is_far("customers", front_end.number)
                self.outcome.seconds[is_from_afar].append(self.simulation.now - began)
            self._think(connection)

        self.send(
            lambda: front_end.take(shard, lambda: self.send(answered, is_far=is_far)),
            is_far=is_far,
        )

    def doors_of(self, shard: int) -> Sequence["FrontEnd"]:
        """The front-ends that take trades for this shard, and are told by it."""
        if self.setting.doors == "all":
            return self.front_ends
        each = self.setting.front_ends // self.setting.shards
        return self.front_ends[shard * each : (shard + 1) * each]


@dataclass
class Lane:
    """A front-end's trades for one shard. travelling: how many, in so many batches that are `under_way`."""

    waiting: deque[Then] = field(default_factory=deque)
    under_way: int = 0
    travelling: int = 0
    is_beginning: bool = False

    @property
    def may_begin(self) -> bool:
        """As `services.common.batching.Batcher` has it."""
        is_free = self.under_way < BATCHES_IN_FLIGHT and not self.is_beginning
        return is_free and bool(self.waiting) and len(self.waiting) >= self.travelling


class FrontEnd:
    """Collects trades for each shard while batches are under way to it."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self._world = world
        self.process = world.process()
        self._lanes = [Lane() for _ in range(world.setting.shards)]

    def take(self, shard: int, answer: Then) -> None:
        """A customer's trade has arrived."""
        cost = self._world.costs.front_end.seconds(0, FRONT_END_TRADE[0])

        def read() -> None:
            self._lanes[shard].waiting.append(answer)
            self._start(shard)

        self.process.do(cost, read)

    def invalidate(self, then: Then) -> None:
        """A catalog's word about the cache."""
        self.process.do(self._world.costs.answer_us / 1e6, then)

    def _start(self, shard: int) -> None:
        if self._lanes[shard].may_begin:
            self._lanes[shard].is_beginning = True
            self._send(shard)

    def _send(self, shard: int) -> None:
        """Those who have come until the batch is put together travel with it."""
        world, lane, answers = self._world, self._lanes[shard], list[Then]()
        each_batch = world.costs.front_end.each_batch_us - world.costs.answer_us

        def put_together() -> float:
            answers.extend(lane.waiting.popleft() for _ in range(min(len(lane.waiting), MAX_TRADES)))
            lane.is_beginning = False
            lane.under_way += 1
            lane.travelling += len(answers)
            return FRONT_END_BATCH[0] * each_batch / 1e6

        def sent() -> None:
            world.outcome.front_end_batches.append(len(answers))
            is_far = world.is_far("customers", self.number)
            batch = Batch(len(answers), lambda: world.send(replied, is_far=is_far))
            world.send(lambda: world.shards[shard].leader.take(batch), is_far=is_far)

        def replied() -> None:
            cost = world.costs.front_end.seconds(0, FRONT_END_TRADE[1] * len(answers))
            self.process.do(cost + FRONT_END_BATCH[1] * each_batch / 1e6, done)

        def done() -> None:
            lane.under_way -= 1
            lane.travelling -= len(answers)
            for answer in answers:
                answer()
            self._start(shard)

        self.process.do(put_together, sent)


class Shard:
    """A catalog and its three replicas, one of which leads."""

    def __init__(self, world: World, number: int) -> None:
        self.catalog = Catalog(world, number)
        self.leader = Leader(world, self.catalog, [Follower(world) for _ in range(2)])


class Leader:
    """Collects batches while a decision is under way; replication of one and the decision of the next overlap."""

    def __init__(self, world: World, catalog: "Catalog", followers: Sequence["Follower"]) -> None:
        self._world = world
        self._catalog = catalog
        self._followers = followers
        self.process = world.process()
        self._waiting: deque[Batch] = deque()
        self._is_deciding = False

    def take(self, batch: Batch) -> None:
        """A front-end's batch has arrived."""
        costs = self._world.costs
        cost = costs.answer_us / 2e6 + costs.leader.seconds(0, LEADER_TRADE[0] * batch.size)

        def read() -> None:
            self._waiting.append(batch)
            self._start()

        self.process.do(cost, read)

    def _each_batch_s(self, step: int) -> float:
        """A step's part of what a decision costs, without the call from the front-end, which is counted by itself."""
        return LEADER_BATCH[step] * (self._world.costs.leader.each_batch_us - self._world.costs.answer_us) / 1e6

    def _start(self) -> None:
        if self._is_deciding:
            return
        self._is_deciding = True
        batches: list[Batch] = []

        def choose() -> float:
            trades = 0
            while self._waiting and (not batches or trades + self._waiting[0].size <= MAX_TRADES):
                batches.append(self._waiting.popleft())
                trades += batches[-1].size
            return self._each_batch_s(0)

        def asked() -> None:
            self._world.send(lambda: self._catalog.decide(_size(batches), decided))

        def decided() -> None:
            self._is_deciding = False
            cost = self._each_batch_s(1) + self._world.costs.leader.seconds(0, LEADER_TRADE[1] * _size(batches))
            self.process.do(cost, lambda: self._replicate(batches))
            if self._waiting:
                self._start()

        self.process.do(choose, asked)

    def _replicate(self, batches: list[Batch]) -> None:
        """Its own disk and every follower's, at the same time; then the answers."""
        world, missing, size = self._world, 1 + len(self._followers), _size(batches)
        world.outcome.leader_batches.append(size)
        is_far = world.is_far("followers")

        def safe() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self._answer(batches)

        for number, follower in enumerate(self._followers):
            heard = partial(self.process.do, self._each_batch_s(2 + number), safe)
            said = partial(world.send, heard, is_far=is_far)
            world.send(partial(follower.append, size, said), is_far=is_far)
        self.process.wait(world.costs.fsync_ms / 1e3, safe)

    def _answer(self, batches: list[Batch]) -> None:
        costs = self._world.costs
        for batch in batches:
            cost = costs.answer_us / 2e6 + costs.leader.seconds(0, LEADER_TRADE[2] * batch.size)
            self.process.do(cost, batch.reply)


class Follower:
    """Appends what it is sent, one append at a time; what comes meanwhile is appended together."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.process = world.process()
        self._waiting: list[tuple[int, Then]] = []
        self._is_appending = False

    def append(self, size: int, then: Then) -> None:
        """Entries from the leader; `then` when they are on the disk."""
        self._waiting.append((size, then))
        if not self._is_appending:
            self._begin()

    def _begin(self) -> None:
        self._is_appending = True
        taken, self._waiting = self._waiting, []
        costs = self._world.costs

        def done() -> None:
            self._is_appending = False
            for _, then in taken:
                then()
            if self._waiting and not self._is_appending:
                self._begin()

        cost = costs.follower.seconds(1, sum(size for size, _ in taken))
        self.process.do(cost, lambda: self.process.wait(costs.fsync_ms / 1e3, done))


class Catalog:
    """Decides one batch at a time: tells the caches, has numbers, commits, answers."""

    def __init__(self, world: World, shard: int) -> None:
        self._world = world
        self._shard = shard
        self.process = world.process()
        self._left: deque[int] = deque()
        self._is_asking = False
        self._stalled: Then | None = None  # a decision that has no numbers yet
        self._next = 1

    def decide(self, size: int, then: Then) -> None:
        """Decide so many trades."""
        world = self._world
        front_ends = world.doors_of(self._shard)
        # One call to a front-end is part of what was measured.
        cost = self._cost(0, size) + (len(front_ends) - 1) * world.costs.call_us / 1e6
        missing = len(front_ends)

        def told() -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                self._number(size, numbered)

        def tell() -> None:
            for front_end in front_ends:
                is_far = world.is_far("customers", front_end.number)
                heard = partial(world.send, told, is_far=is_far)
                world.send(partial(front_end.invalidate, heard), is_far=is_far)

        def numbered() -> None:
            self.process.do(self._cost(1, size), commit)

        def commit() -> None:
            self.process.wait(world.costs.fsync_ms / 1e3, lambda: world.send(then))

        self.process.do(cost, tell)

    def _cost(self, step: int, size: int) -> float:
        return CATALOG[step] * self._world.costs.catalog.seconds(1, size)

    def _number(self, size: int, then: Then) -> None:
        """Have order numbers for so many trades."""
        world, numbers = self._world, self._world.outcome.numbers
        if world.setting.numbers == "own sequences":
            numbers.extend((self._shard, self._next + place) for place in range(size))
            self._next += size
            then()
        elif world.setting.numbers == "one sequence":

            def given(first: int) -> None:
                numbers.extend((0, first + place) for place in range(size))
                then()

            self.process.do(world.costs.call_us / 1e6, lambda: world.allocator.give(size, given))
        else:
            self._from_block(size, then)

    def _from_block(self, size: int, then: Then) -> None:
        if len(self._left) < BLOCK // 2 + size and not self._is_asking:
            self._is_asking = True

            def given(first: int) -> None:
                self._is_asking = False
                self._left.extend(range(first, first + BLOCK))
                stalled, self._stalled = self._stalled, None
                if stalled is not None:
                    stalled()

            self.process.do(self._world.costs.call_us / 1e6, lambda: self._world.allocator.give(BLOCK, given))
        if len(self._left) >= size:
            self._world.outcome.numbers.extend((0, self._left.popleft()) for _ in range(size))
            then()
        else:
            self._stalled = lambda: self._from_block(size, then)


class Allocator:
    """Hands out order numbers to all shards, after it has written that down, for all who ask meanwhile at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.process = world.process()
        self._waiting: list[tuple[int, Callable[[int], None]]] = []
        self._is_writing = False
        self._next = 1

    def give(self, many: int, then: Callable[[int], None]) -> None:
        """Give so many numbers in a row; `then` is told the first."""
        world, is_far = self._world, self._world.is_far("allocator")

        def asked() -> None:
            self._waiting.append((many, lambda first: world.send(lambda: then(first), is_far=is_far)))
            if not self._is_writing:
                self._write()

        world.send(lambda: self.process.do(world.costs.answer_us / 1e6, asked), is_far=is_far)

    def _write(self) -> None:
        self._is_writing = True
        taken, self._waiting = self._waiting, []

        def written() -> None:
            self._is_writing = False
            for many, then in taken:
                first, self._next = self._next, self._next + many
                then(first)
            if self._waiting and not self._is_writing:
                self._write()

        self.process.wait(self._world.costs.fsync_ms / 1e3, written)


def _size(batches: Sequence[Batch]) -> int:
    return sum(batch.size for batch in batches)
