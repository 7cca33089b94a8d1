"""The demo's story from data: its verdict, its sentences, and how they are told."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.crash.files import Comparison
from eval.demo import show
from eval.demo.stage import INDENT, Stage
from eval.demo.story import Customer, FailOver, LookUp, Opening, Return, Story, Trading, Verdict, conclude, trading
from eval.history import Operation
from eval.json_text import to_json

WIDTH = 80
FILES = ["order-1", "order-2", "order-3"]
SAME = Comparison(entries=3, orders=2, sha256=dict.fromkeys(FILES, "ab" * 32), difference=None)
BUY = {"name": "Apple", "type": "buy", "quantity": 2}


def trade(number: int, began: float = 1.0, ended: float = 1.02) -> Operation:
    return Operation("c", "trade", began, **BUY, ended=ended, status=201, seen={"number": number})  # type: ignore[arg-type]


def query(asked: int, status: int = 200, **changes: Any) -> Operation:
    seen = {"number": asked} | BUY | changes if status == 200 else {}
    return Operation("c", "order", 2.0, number=asked, ended=2.001, status=status, seen=seen)


def judged(*operations: Operation, files: Comparison = SAME, problems: Any = (), errors: Any = ()) -> Verdict:
    return conclude(operations, files, list(problems), list(errors))


def test_verdict_is_good_when_every_order_is_found_and_the_files_are_the_same() -> None:
    verdict = judged(trade(1), trade(2, ended=1.5), query(2), query(1))
    assert verdict.passed
    assert verdict.text == "0 orders lost, 3 of 3 databases identical, longest wait 500 ms"
    assert (verdict.orders, verdict.asked, verdict.operations) == (2, 2, 4)


@pytest.mark.parametrize(
    "answer", [query(2, 404), query(2, quantity=3), query(2, name="Pepsi"), query(2, type="sell"), query(2, number=1)]
)
def test_order_is_lost_when_it_is_not_given_back_as_it_was_acknowledged(answer: Operation) -> None:
    verdict = judged(trade(1), trade(2), query(1), answer)
    assert not verdict.passed
    assert verdict.text.startswith("1 order lost, ")


def test_verdict_is_bad_and_nothing_lost_when_an_order_got_no_answer() -> None:
    verdict = judged(trade(1), trade(2), query(1), query(2, 503))
    assert (verdict.passed, verdict.lost, verdict.asked) == (False, 0, 1)
    assert verdict.text.endswith("1 not asked for")


def test_verdict_counts_the_databases_that_agree_when_one_differs() -> None:
    hashes = dict.fromkeys(FILES[:2], "ab" * 32) | {FILES[2]: "cd" * 32}
    verdict = judged(files=SAME.model_copy(update={"sha256": hashes, "difference": "row 3 of log"}))
    assert not verdict.passed
    assert "2 of 3 databases identical" in verdict.text
    assert show.ending_lines(verdict)[-2:] == [
        f"order-3.db  SHA-256 over all rows  {'cd' * 12}...", "differs: row 3 of log",
    ]  # fmt: skip


def test_verdict_is_bad_and_shows_why_when_something_was_wrong() -> None:
    verdict = judged(trade(1), query(1), problems=[f"K{number}" for number in range(1, 8)], errors=["504"])
    assert not verdict.passed
    assert verdict.text.endswith("violations: 7, errors seen by clients: 1")
    lines = show.ending_lines(verdict)
    assert "1 order asked for, 1 found as acknowledged." in lines
    assert lines[-7:] == [*(f"wrong: K{n}" for n in range(1, 6)), "... and 2 more; --json shows all", "error: 504"]


def test_trading_counts_what_was_answered_between_two_moments() -> None:
    refused = Operation("c", "trade", 1.0, ended=1.9, status=409)
    found = trading([trade(1, 0.9, 0.99), trade(2, 0.9, 1.1), refused, trade(3, 1.9, 2.0)], 1.0, 2.0)
    assert found == Trading(seconds=1.0, orders=1, longest_ms=900.0)
    assert trading([], 1.0, 1.0).per_s == 0


def make_story() -> Story:
    """One with large figures."""
    pace = Trading(seconds=3_000.0, orders=12_345_678, longest_ms=12_345.6)
    look_ups = [LookUp(cache="miss", quantity=100), LookUp(cache="hit", quantity=100)]
    orders = [trade(1), query(1)]
    return Story(
        started_at=datetime(2027, 1, 2, tzinfo=UTC),
        clients=5,
        opening=Opening(services=5, replicas=3, ready_s=12.3, leader="order-3", room="http://127.0.0.1:32767/"),
        customer=Customer(
            stock="GameStart", before=look_ups, bought=3, number=1, after=LookUp(cache="miss", quantity=97)
        ),
        trading=pace,
        fail_over=FailOver(
            victim="order-3", pid=4_194_304, noticed_ms=2.4, selected="order-2", selected_ms=2.6, first_ms=None,
            meanwhile=pace,
        ),
        back=Return(
            replica="order-3", answers_ms=400.0, level_ms=12_480.4, missed=1_234_567, fetched=1_000, fetch_ms=250.0
        ),
        verdict=judged(*orders, files=SAME.model_copy(update={"entries": 12_345_678, "orders": 12_345_678})),
    )  # fmt: skip


def lines_of(story: Story) -> list[str]:
    assert story.opening is not None
    assert story.customer is not None
    assert story.trading is not None
    assert story.fail_over is not None
    assert story.back is not None
    assert story.verdict is not None
    return [
        *show.opening_lines(story.opening),
        *show.staying_lines("http://127.0.0.1:32767", "http://127.0.0.1:32758", Path("/a/bazaar-demo-abcdefgh")),
        *show.customer_lines(story.customer),
        show.trading_title(story.clients, 0.4),
        *show.trading_lines(story.trading, "order-3"),
        show.kill_title(story.fail_over.victim, story.fail_over.pid),
        *show.fail_over_lines(story.fail_over),
        show.return_title(story.back.replica),
        *show.return_lines(story.back),
        *show.ending_lines(story.verdict),
        show.moving_text(1_234_567, story.trading, "order-3"),
    ]


def test_every_line_fits_an_ordinary_terminal() -> None:
    lines = [show.OPENING, show.CUSTOMER, show.ENDING, *lines_of(make_story())]
    assert [line for line in lines if len(line) + INDENT > WIDTH] == []


def test_lines_say_what_happened() -> None:
    lines = lines_of(make_story())
    assert "GET /stocks/GameStart           X-Cache: hit   100 left, says the cache" in lines
    assert "GET /stocks/GameStart           X-Cache: miss   97 left, says the catalog" in lines
    assert "kill -9 4194304: order-3, the leader, is dead." in lines
    assert "    2 ms later  its death is noticed," in lines
    assert "    3 ms later  order-2 is selected as the leader," in lines
    assert "    - ms later  the first new trade is answered." in lines
    assert "It lacks 1,234,567 entries of the order log, and more at every moment." in lines
    assert "It fetches 1,000 from the other replicas in 250 ms: 4,000/s." in lines


def test_fetching_is_left_out_when_nothing_was_fetched() -> None:
    back = Return(replica="order-3", answers_ms=1.0, level_ms=2.0, missed=1, fetched=None)
    assert show.return_lines(back) == [
        "It lacks 1 entry of the order log, and more at every moment.",
        "2 ms after its start it holds all that the others hold.",
    ]


def test_story_can_be_read_again_when_it_was_written_as_json() -> None:
    story = make_story()
    assert Story.model_validate_json(to_json(story)) == story


def told(*, is_terminal: bool, is_quiet: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, width=WIDTH, force_terminal=is_terminal, quiet=is_quiet, highlight=False,
        _environ={"TERM": "xterm"},
    )  # fmt: skip
    stage = Stage(console)
    stage.act("Begin.")
    with stage.moving("it moves"):
        stage.move("it moved")
        stage.say("A line.")
    stage.move("too late")
    stage.act("End.")
    stage.verdict("0 orders lost", passed=True)
    stage.after("It runs again.")
    return file.getvalue()


def test_story_is_plain_lines_when_nobody_watches() -> None:
    assert told(is_terminal=False) == "1  Begin.\n   A line.\n\n2  End.\n\n0 orders lost\n\nIt runs again.\n"


def test_a_line_moves_on_a_terminal_only_while_something_goes_on() -> None:
    text = told(is_terminal=True)
    assert "it moves" in text
    assert "it moved" in text
    assert "too late" not in text
    assert "\x1b[1;32m0 orders lost" in text


def test_nothing_is_told_when_the_console_is_quiet() -> None:
    assert not told(is_terminal=True, is_quiet=True)
