"""The story in plain sentences, 80 characters wide with their indent."""

from pathlib import Path

from eval.demo.story import Customer, FailOver, LookUp, Opening, Return, Trading, Verdict

OPENING = "A bazaar starts."
STARTING = "starting its processes ..."
STARTING_AGAIN = "starting them again ..."
CUSTOMER = "A customer looks up a stock twice, buys some, and looks again."
ENDING = "The clients stop, and ask for every order that they were told of."
ASKING = "asking ..."
BEGINNING = "the first requests ..."
SHOWN = 5  # of the problems and of the errors; the JSON has all of them


def opening_lines(opening: Opening) -> list[str]:
    """What runs, and who leads."""
    parts = f"Front-end, catalog, {opening.replicas} order replicas: {opening.services} processes"
    return [
        f"{parts}, ready in {opening.ready_s:.1f} s.",
        f"Each replica has a database of its own; {opening.leader} leads.",
        f"Its control room, to watch it all: {opening.room}",
    ]


def customer_lines(customer: Customer) -> list[str]:
    """Each request with its answer."""
    number = "refused: not enough stock" if customer.number is None else f"order {customer.number}"
    look_ups = [_look_up(customer.stock, each) for each in (*customer.before, customer.after)]
    return [*look_ups[:-1], _request(f"POST /orders  buy {customer.bought} {customer.stock}", number), look_ups[-1]]


def trading_title(clients: int, probability: float) -> str:
    """Before the clients begin."""
    return f"{clients} clients look up stocks, and buy or sell after {probability:.0%} of their look-ups."


def trading_lines(trading: Trading, leader: str) -> list[str]:
    """How it went for a while."""
    pace = f"{_count(trading.orders, 'order')}, {trading.per_s:,.0f}/s, through {leader}"
    return [f"{pace}; the longest wait is {_ms(trading.longest_ms)}."]


def kill_title(victim: str, pid: int) -> str:
    """At the moment of the kill."""
    return f"kill -9 {pid}: {victim}, the leader, is dead."


def fail_over_lines(fail_over: FailOver) -> list[str]:
    """What came of it, moment by moment."""
    return [
        f"{_ms(fail_over.noticed_ms):>8} later  its death is noticed,",
        f"{_ms(fail_over.selected_ms):>8} later  {fail_over.selected} is selected as the leader,",
        f"{_ms(fail_over.first_ms):>8} later  the first new trade is answered.",
    ]


def return_title(replica: str) -> str:
    """Before the dead replica is started again."""
    return f"{replica} is started again, while the others go on trading."


def return_lines(back: Return) -> list[str]:
    """How it caught up."""
    lines = [f"It lacks {_count(back.missed, 'entry', 'entries')} of the order log, and more at every moment."]
    if back.fetched and back.fetch_ms:
        per_s = back.fetched / back.fetch_ms * 1_000
        lines.append(f"It fetches {back.fetched:,} from the other replicas in {_ms(back.fetch_ms)}: {per_s:,.0f}/s.")
    return [*lines, f"{_ms(back.level_ms)} after its start it holds all that the others hold."]


def ending_lines(verdict: Verdict) -> list[str]:
    """What was found in the end, and what is wrong."""
    files = verdict.files
    violations = _count(len(verdict.problems), "violation")
    return [
        f"{_count(verdict.asked, 'order')} asked for, {verdict.asked - verdict.lost:,} found as acknowledged.",
        f"All {verdict.operations:,} answers checked against the databases: {violations}.",
        *(f"{name}.db  SHA-256 over all rows  {digest[:24]}..." for name, digest in files.sha256.items()),
        *([f"differs: {files.difference}"] if files.difference is not None else []),
        *_some("wrong", verdict.problems),
        *_some("error", verdict.errors),
    ]


def staying_lines(control: str, front_end: str, data_dir: Path) -> list[str]:
    """Where to find what runs on after the verdict."""
    return [
        "It runs again, on the same databases, until Ctrl-C:",
        f"control room  {control}/",
        f"front-end     {front_end}/docs",
        f"commands      bazaar status --data-dir {data_dir}",
    ]


def moving_text(trades: int, last: Trading, leader: str) -> str:
    """The line that moves. last: the last second."""
    return f"{leader} leads   {last.per_s:,.0f} orders/s   {trades:,} trades   longest wait {_ms(last.longest_ms)}"


def _look_up(stock: str, look_up: LookUp) -> str:
    source = "cache" if look_up.cache == "hit" else "catalog"
    return _request(
        f"GET /stocks/{stock}", f"X-Cache: {look_up.cache:<6}{look_up.quantity:>3,} left, says the {source}"
    )


def _request(call: str, answer: str) -> str:
    return f"{call:<32}{answer}"


def _some(word: str, texts: list[str]) -> list[str]:
    more = [f"... and {len(texts) - SHOWN:,} more; --json shows all"] if len(texts) > SHOWN else []
    return [f"{word}: {text}" for text in texts[:SHOWN]] + more


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _ms(value: float | None) -> str:
    return "- ms" if value is None else f"{value:,.0f} ms"
