"""The cache experiment: its requests, the cache by the book, what a step did, and the pictures."""

import io
import random
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from eval.cache_replacement.command import chosen_settings
from eval.cache_replacement.model import ModelCache
from eval.cache_replacement.plot import marks, plot_result, spans
from eval.cache_replacement.requests import Request, draw, until, weights
from eval.cache_replacement.results import Result, Sample, Step, Trace, differences, observe
from eval.cache_replacement.show import print_result
from services.common.models import CacheView, PublicStock
from tests.support.bench_results import MACHINE

NAMES = [f"Stock{number}" for number in range(10)]


def view(*names: str, evictions: int = 0, invalidations: int = 0) -> CacheView:
    entries = [PublicStock.model_validate({"name": name, "price": 1.5, "quantity": 1}) for name in names]
    return CacheView(
        entries=entries, size=len(names), capacity=2, hits=0, misses=0, evictions=evictions, invalidations=invalidations
    )


def steps_of(model: ModelCache, requests: list[Request]) -> list[Step]:
    """What a front-end would tell whose cache is by the book."""
    steps = []
    for request in requests:
        before = model.names
        is_hit = model.take(request)
        gone = [name for name in before if name not in model.names]
        key = "evicted" if request.trade is None else "invalidated"
        cache = None if request.trade is not None else "hit" if is_hit else "miss"
        steps.append(
            Step.model_validate(
                {"name": request.name, "trade": request.trade, "cache": cache, "entries": model.names, key: gone}
            )
        )
    return steps


def make_trace(capacity: int = 3, count: int = 60) -> Trace:
    requests = list(islice(draw(random.Random(5), NAMES, "zipf", 0.3), count))
    steps = steps_of(ModelCache(capacity), requests)
    return Trace(capacity=capacity, popularity="zipf", p=0.3, steps=steps, differences=differences(capacity, steps))


def make_sample(capacity: int = 3, **changes: Any) -> Sample:
    values: dict[str, Any] = {
        "capacity": capacity, "popularity": "uniform", "p": 0.2, "repetition": 1, "look_ups": 100, "trades": 20,
        "header_hits": 30, "hits": 30, "misses": 70, "evictions": 50, "invalidations": 10, "model_hits": 30,
        "differences": 0, "sessions_lost": 0,
    }  # fmt: skip
    return Sample(**values | changes)


def make_result(**changes: Any) -> Result:
    values: dict[str, Any] = {
        "command": "bazaar evaluate cache", "seed": 1, "machine": MACHINE, "duration_s": 1.0, "warm_up": 5,
        "started_at": datetime(2027, 1, 2, tzinfo=UTC), "stocks": NAMES, "traces": [make_trace()],
        "samples": [make_sample(3), make_sample(8, header_hits=70, hits=70, misses=30, model_hits=70)],
    }  # fmt: skip
    return Result(**values | changes)


def test_second_stock_is_half_as_popular_when_popularity_is_zipf() -> None:
    assert weights("zipf", 4)[1] == pytest.approx(weights("zipf", 4)[0] / 2)
    assert sum(weights("zipf", 25)) == pytest.approx(1)
    assert weights("uniform", 4) == [0.25] * 4


def test_no_trade_can_be_refused_when_each_stock_is_sold_and_bought_in_turn() -> None:
    pieces: Counter[str] = Counter()
    for request in islice(draw(random.Random(1), NAMES, "zipf", 0.6), 2_000):
        if request.trade is not None:
            pieces[request.name] += 1 if request.trade == "sell" else -1
            assert pieces[request.name] in {0, 1}


def test_requests_are_the_same_when_the_seed_is() -> None:
    first, second = (list(islice(draw(random.Random("1/uniform"), NAMES, "uniform", 0.5), 50)) for _ in range(2))
    assert first == second


def test_requests_go_on_where_they_stopped_when_taken_by_look_ups() -> None:
    requests = draw(random.Random(3), NAMES, "uniform", 0.5)
    first, second = until(requests, 10), until(requests, 10)
    assert sum(each.trade is None for each in first) == sum(each.trade is None for each in second) == 10
    assert first + second == until(draw(random.Random(3), NAMES, "uniform", 0.5), 20)


def test_least_recently_used_goes_when_another_is_stored() -> None:
    model = ModelCache(2)
    hits = [model.take(Request(name)) for name in ("A", "B", "A", "C", "B")]
    assert hits == [False, False, True, False, False]
    assert model.names == ["C", "B"]
    model.take(Request("C", "buy"))
    assert model.names == ["B"]


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        (view("B", "C", evictions=1), ("evicted", ["A"])),
        (view("B", invalidations=1), ("invalidated", ["A"])),
        (view(), ("lost", ["A", "B"])),
    ],
)
def test_step_says_why_a_stock_went_when_it_is_gone(after: CacheView, wanted: tuple[str, list[str]]) -> None:
    step = observe(Request("C"), "miss", view("A", "B"), after)
    happened = {name: names for name in ("evicted", "invalidated", "lost") if (names := getattr(step, name))}
    assert happened == dict([wanted])


def test_no_step_differs_when_the_cache_is_by_the_book() -> None:
    assert make_trace().differences == []


def test_steps_that_differ_are_named_when_another_stock_was_evicted() -> None:
    steps = make_trace().steps
    number = next(number for number, step in enumerate(steps) if step.evicted)
    steps[number].entries = steps[number].entries[::-1]
    assert number in differences(3, steps)


def test_book_goes_on_with_what_is_held_when_a_session_was_lost() -> None:
    steps = steps_of(ModelCache(3), [Request("A"), Request("B")])
    rest = ModelCache(3)
    lost = Step(name="C", cache="miss", entries=["C"], lost=["A", "B"])
    rest.reset(["C"])
    assert differences(3, [*steps, lost, *steps_of(rest, [Request("C"), Request("D")])]) == []


@pytest.mark.parametrize(
    ("samples", "passed"),
    [
        ([make_sample()], True),
        ([make_sample(differences=2)], False),
        ([make_sample(differences=2, sessions_lost=1)], True),
        ([make_sample(hits=29)], False),
    ],
)
def test_result_passes_only_when_front_end_client_and_book_agree(samples: list[Sample], passed: bool) -> None:
    assert make_result(samples=samples).passed is passed


def test_bars_cover_exactly_the_steps_at_which_a_stock_is_held() -> None:
    trace = make_trace()
    held = {(name, number) for name, start, end in spans(trace) for number in range(start, end)}
    assert held == {(name, number) for number, step in enumerate(trace.steps) for name in step.entries}


def test_every_look_up_and_trade_has_its_mark() -> None:
    trace = make_trace()
    found = {what: len(marks(trace, what)) for what in ("hit", "miss", "trade", "invalidated", "evicted", "lost")}
    assert found["hit"] + found["miss"] + found["trade"] + found["invalidated"] == len(trace.steps)
    assert found["evicted"] > 0
    assert found["lost"] == 0


def test_pictures_are_drawn_when_a_result_was_read_back(tmp_path: Path) -> None:
    result = Result.model_validate_json(make_result().model_dump_json())
    plot_result(result, tmp_path)
    for name in ("replacement.png", "hit_ratio.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_table_fits_into_80_columns_when_it_is_printed() -> None:
    output = io.StringIO()
    samples = [
        make_sample(size, popularity=popularity, p=p)
        for size in (1, 25)
        for popularity in ("uniform", "zipf")
        for p in (0.0, 0.2, 0.6)
    ]
    print_result(make_result(samples=samples), Console(file=output, width=80))
    text = output.getvalue()
    assert text.count("30.0%") == len(samples)
    assert "0 answered otherwise than by an LRU" in text
    assert "…" not in text


def test_command_line_is_noted_when_the_experiment_is_quick() -> None:
    assert chosen_settings(quick=True, seed=7).command == "bazaar evaluate cache --quick --seed 7"
    assert chosen_settings(quick=False).command == "bazaar evaluate cache"
