"""What `bazaar verify` proves, over logs that may come from anywhere: a running bazaar, a simulation, a test.

Every log starts from the same initial stocks; positions and order numbers have no gaps; a key stands once; each digest
covers its entry and the digest before; a trade was accepted exactly when there was enough; all logs are equal; and
folded over the initial stocks they give what the catalog shows.

Logs are taken page by page and forgotten. What stays is one position, one number, one digest and the stocks for each
replica, and the keys of a single log: equal digests make those of the others the same.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import MAX_ENTRIES, MAX_STOCK, Entry, Head, Stock, StocksAnswer

MOST_PROBLEMS = 100
"""More are not noted: they have one cause."""


class LogVerdict(BaseModel):
    """How far one replica's log was read."""

    name: str
    position: int
    number: int
    digest: str


class Verdict(BaseModel):
    """What came out. `orders` are the accepted ones, `refused` the other entries; `problems` are in words."""

    passed: bool
    summary: str
    orders: int
    refused: int
    stocks: int
    digest: str | None
    replicas: list[LogVerdict]
    problems: list[str]


class Checked(NamedTuple):
    """An entry that was found right after the digest `before`, in the log of `name`."""

    before: str
    entry: Entry
    name: str


class LogCheck:
    """Checks one log as it comes; the first problem ends it."""

    def __init__(self, name: str, initial: Sequence[Stock]) -> None:
        self.name = name
        self.head: Head = empty_head(initial)
        self._prices = {stock.name: stock.price for stock in initial}
        self._quantities = {stock.name: stock.quantity for stock in initial}
        self._versions = {stock.name: stock.version for stock in initial}
        self.problem: str | None = None

    @property
    def stocks(self) -> dict[str, Stock]:
        """What the log adds up to so far."""
        return {
            name: Stock(name=name, price=self._prices[name], quantity=quantity, version=self._versions[name])
            for name, quantity in self._quantities.items()
        }

    def take(self, entry: Entry, checked: dict[int, Checked]) -> None:
        """Check the next entry. `checked` remembers what was hashed, for the other logs."""
        if self.problem is not None:
            return
        self.problem = self._problem(entry, checked)
        if self.problem is None:
            checked.setdefault(entry.position, Checked(self.head.digest, entry, self.name))
            if entry.number is not None:
                self._quantities[entry.name] = _traded(self._quantities[entry.name], entry)
                self._versions[entry.name] = entry.position
            self.head = head_at(entry, self.head)

    def _problem(self, entry: Entry, checked: Mapping[int, Checked]) -> str | None:
        if entry.position != self.head.position + 1:
            return f"position {entry.position} follows {self.head.position}"
        here = f"at position {entry.position}"
        other = checked.get(entry.position)
        if other is not None and (other.before, other.entry) == (self.head.digest, entry):
            return None  # the same entry after the same past: another log has shown it to be right
        if entry.number not in {None, self.head.number + 1}:
            return f"order {entry.number} follows {self.head.number} {here}"
        if entry.digest != entry_digest(self.head.digest, entry):
            return f"the digest {here} does not fit what is there"
        quantity = self._quantities.get(entry.name)
        if quantity is None:
            return f"there is no stock {entry.name}, but an order of it {here}"
        if entry.price != self._prices[entry.name]:
            return f"{entry.name} has another price {here} than at the start"
        was_enough = 0 <= _traded(quantity, entry) <= MAX_STOCK
        if was_enough is (entry.number is None):
            return f"the {entry.type} of {entry.quantity} {entry.name} {here} was " + (
                "refused, though it was possible" if was_enough else f"accepted, though there were {quantity}"
            )
        return None


class Verification:
    """Takes the logs of all replicas side by side and judges them.

    initial: the stocks each replica says the bazaar started from. A replica that nobody could read is not in it.
    """

    def __init__(self, initial: Mapping[str, Sequence[Stock]]) -> None:
        self._logs = {name: LogCheck(name, stocks) for name, stocks in initial.items()}
        self._keys: set[str] = set()
        self._problems: list[str] = []
        self._different: set[str] = set()
        starts = {name: log.head.digest for name, log in self._logs.items()}
        if len(set(starts.values())) > 1:
            self.complain(f"the replicas do not start from the same stocks: {_by_value(starts)}")

    def complain(self, problem: str) -> None:
        """Note a problem found elsewhere, such as a replica that does not answer."""
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(problem)

    def head(self, name: str) -> Head:
        """How far a log was taken."""
        return self._logs[name].head

    def is_over(self, name: str) -> bool:
        """Whether reading on in this log tells nothing more."""
        return self._logs[name].problem is not None

    def take(self, pages: Mapping[str, Sequence[Entry]]) -> None:
        """Take the next entries of every log; a log that has no more gives none."""
        checked: dict[int, Checked] = {}
        first = next(iter(self._logs), None)
        for name, entries in pages.items():
            log = self._logs[name]
            for entry in entries:
                if name == first:
                    self._note_key(name, entry)
                log.take(entry, checked)
                if log.problem is None:
                    self._compare(name, entry, checked[entry.position])

    def _note_key(self, name: str, entry: Entry) -> None:
        if entry.key in self._keys:
            self.complain(f"{name}: the key at position {entry.position} stands in the log before")
        self._keys.add(entry.key)

    def _compare(self, name: str, entry: Entry, other: Checked) -> None:
        if other.entry != entry and name not in self._different:
            self._different.add(name)
            self.complain(f"{other.name} and {name} differ from position {entry.position} on")

    def conclude(self, catalog: StocksAnswer | None) -> Verdict:
        """Judge. `catalog` is what it shows; None when it does not answer, which is a problem noted by the caller."""
        problems = list(self._problems)
        problems += [f"{name}: {log.problem}" for name, log in self._logs.items() if log.problem is not None]
        longest = max((log.head for log in self._logs.values()), key=lambda head: head.position, default=None)
        if catalog is not None:
            problems += self._against(catalog)
        elif longest is not None:
            problems += self._behind(longest.position)
        orders = longest.number if longest is not None else 0
        stocks = len(next(iter(self._logs.values())).stocks) if self._logs else 0
        return Verdict(
            passed=not problems and bool(self._logs),
            summary=self._summary(problems, longest, stocks),
            orders=orders,
            refused=(longest.position - orders) if longest is not None else 0,
            stocks=stocks,
            digest=longest.digest if longest is not None else None,
            replicas=[LogVerdict(name=name, **log.head.model_dump()) for name, log in self._logs.items()],
            problems=problems,
        )

    def _against(self, catalog: StocksAnswer) -> list[str]:
        """Whether every sound log is the catalog's whole sequence, and its stocks what the log adds up to."""
        problems = self._behind(catalog.head.position)
        whole = [
            log for log in self._logs.values() if log.problem is None and log.head.position == catalog.head.position
        ]
        problems += [
            f"{log.name} differs from the catalog's sequence: other digest at position {log.head.position}"
            for log in whole
            if log.head != catalog.head
        ]
        equal = next((log for log in whole if log.head == catalog.head), None)
        # Other logs with this digest add up to the same.
        return problems + (_differences(equal.name, equal.stocks, catalog.stocks) if equal is not None else [])

    def _behind(self, position: int) -> list[str]:
        return [
            f"{name} holds {log.head.position:,} entries, there are {position:,}"
            for name, log in self._logs.items()
            if log.problem is None and log.head.position < position
        ]

    def _summary(self, problems: Sequence[str], longest: Head | None, stocks: int) -> str:
        if problems or longest is None:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return f"not proven: {problems[0] if problems else 'there is no replica'}{more}"
        count = len(self._logs)
        return (
            f"{count} of {count} replicas hold the same {_count(longest.number, 'order')} "
            f"(digest {longest.digest[:12]}), {_count(stocks, 'stock')} add up"
        )


def verify_logs(initial: Sequence[Stock], logs: Mapping[str, Sequence[Entry]], catalog: StocksAnswer | None) -> Verdict:
    """Judge whole logs that are at hand."""
    verification = Verification(dict.fromkeys(logs, initial))
    longest = max((len(log) for log in logs.values()), default=0)
    for start in range(0, longest, MAX_ENTRIES):
        verification.take({name: log[start : start + MAX_ENTRIES] for name, log in logs.items()})
    return verification.conclude(catalog)


def _traded(quantity: int, entry: Entry) -> int:
    return quantity + (entry.quantity if entry.type == "sell" else -entry.quantity)


def _differences(name: str, expected: Mapping[str, Stock], shown: Sequence[Stock]) -> list[str]:
    """In what the catalog's stocks are not what the log adds up to."""
    found = {stock.name: stock for stock in shown}
    problems = []
    if found.keys() != expected.keys():
        odd = sorted(found.keys() ^ expected.keys())
        problems.append(f"the catalog does not have the stocks the bazaar started with: see {', '.join(odd[:5])}")
    for stock in (expected[each] for each in sorted(expected.keys() & found.keys())):
        other = found[stock.name]
        if (other.quantity, other.price) != (stock.quantity, stock.price):
            problems.append(
                f"{stock.name}: the catalog shows {other.quantity} at {other.price} cents, "
                f"the log of {name} adds up to {stock.quantity} at {stock.price}"
            )
        elif other.version != stock.version:
            problems.append(
                f"{stock.name}: the catalog says it last changed at position {other.version}, "
                f"the log of {name} at {stock.version}"
            )
    return problems


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _by_value(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in values.items())
