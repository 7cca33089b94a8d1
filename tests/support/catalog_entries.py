"""Trades, logs and requests in a few words, for tests of what the catalog decides."""

from collections.abc import Iterable, Sequence

from services.common.digest import empty_head, entry_digest, head_at
from services.common.models import DecideRequest, Entry, Head, Stock, Trade, Type

AT = 1_760_000_000_000

STOCKS = [Stock(name="FishCo", price=2_050, quantity=50), Stock(name="GameStart", price=1_599, quantity=100)]


def buy(key: str, quantity: int = 1, name: str = "GameStart") -> Trade:
    return _trade(key, name, "buy", quantity)


def sell(key: str, quantity: int = 1, name: str = "GameStart") -> Trade:
    return _trade(key, name, "sell", quantity)


def _trade(key: str, name: str, kind: Type, quantity: int) -> Trade:
    return Trade(key=key, name=name, type=kind, quantity=quantity)


def entry_after(head: Head, trade: Trade, price: int = 1_599, *, accepted: bool = True) -> Entry:
    """The entry that `trade` becomes right after `head`."""
    draft = Entry(
        **trade.model_dump(),
        position=head.position + 1,
        number=head.number + 1 if accepted else None,
        price=price,
        at=AT,
        digest="",
    )
    return draft.model_copy(update={"digest": entry_digest(head.digest, draft)})


def chain(
    trades: Iterable[Trade], initial: Sequence[Stock] = STOCKS, *, refused: frozenset[str] = frozenset()
) -> list[Entry]:
    """A log of `trades`, those with a key in `refused` without a number."""
    prices = {stock.name: stock.price for stock in initial}
    head = empty_head(initial)
    entries = []
    for trade in trades:
        entry = entry_after(head, trade, prices.get(trade.name, 1), accepted=trade.key not in refused)
        entries.append(entry)
        head = head_at(entry, head)
    return entries


def head_of(entries: Sequence[Entry], initial: Sequence[Stock] = STOCKS) -> Head:
    """The head of this log."""
    head = empty_head(initial)
    for entry in entries:
        head = head_at(entry, head)
    return head


def request(
    *trades: Trade, head: Head, replica_id: int = 3, fsynced: int | None = None, generation: int = 1
) -> DecideRequest:
    """What a replica with this head asks; everything up to there is on its disk unless told otherwise."""
    return DecideRequest(
        generation=generation,
        replica_id=replica_id,
        head=head,
        fsynced=head.position if fsynced is None else fsynced,
        trades=list(trades),
    )
