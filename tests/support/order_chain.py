"""The one sequence of decided trades, made by hand, for tests of what takes it."""

from collections.abc import Iterable, Sequence
from typing import Literal

from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import Entry, Head, Stock, Trade

STOCKS = [
    Stock(name="BoarCo", price=3_575, quantity=100),
    Stock(name="FishCo", price=2_050, quantity=100),
    Stock(name="GameStart", price=1_599, quantity=100),
]


def make_trade(key: str, *, name: str = "GameStart", kind: Literal["buy", "sell"] = "buy", quantity: int = 1) -> Trade:
    return Trade(key=key, name=name, type=kind, quantity=quantity)


class Chain:
    """Entries that follow each other; `head(n)` is the head of a log that ends at position n."""

    def __init__(self, initial: Sequence[Stock] = STOCKS, entries: Iterable[Entry] = ()) -> None:
        self.initial = list(initial)
        self.entries: list[Entry] = []
        self._heads = [empty_head(initial)]
        for entry in entries:
            self._append(entry)

    def add(self, count: int = 1, *, key: str | None = None, accepted: bool = True, quantity: int = 1) -> list[Entry]:
        """Decide `count` more trades and give their entries. Only one can have a `key` that is named."""
        assert key is None or count == 1, "a key stands once"
        for _ in range(count):
            before = self._heads[-1]
            draft = Entry(
                position=before.position + 1,
                number=before.number + 1 if accepted else None,
                key=key or f"key-{before.position + 1}",
                name="GameStart",
                type="buy",
                quantity=quantity,
                price=1_599,
                at=1_760_000_000_000 + before.position,
                digest="",
            )
            self._append(draft.model_copy(update={"digest": entry_digest(before.digest, draft)}))
        return self.entries[-count:]

    def fork(self, position: int) -> "Chain":
        """A chain that is equal up to `position`, and another one from there on when other trades are added."""
        return Chain(self.initial, self.entries[:position])

    def head(self, position: int | None = None) -> Head:
        return self._heads[-1 if position is None else position]

    def after(self, position: int, until: int | None = None) -> list[Entry]:
        return self.entries[position:until]

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._heads.append(head_at(entry, self._heads[-1]))
