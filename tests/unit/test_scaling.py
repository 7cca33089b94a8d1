"""The simulation of several shards: its engine, its rules, and what must come out whatever the costs are."""

from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from eval.bench.results import Result as BenchResult
from eval.scaling import engine
from eval.scaling.command import BENCH, chosen_settings, read_bench, run_command
from eval.scaling.costs import Cost, Costs, costs_of, measured
from eval.scaling.engine import Machine, Process, Simulation
from eval.scaling.model import BLOCK, Numbers, Setting, World
from eval.scaling.plot import plot_result
from eval.scaling.results import Result
from eval.scaling.run import SERIES, shares, simulate
from services.cluster.errors import CannotDo
from services.front_end.forwarder import BATCHES_IN_FLIGHT
from tests.support.bench_results import make_result, make_sample

ROOT = Path(__file__).parents[2]
COMMITTED, DOCUMENT = ROOT / "eval/results/scaling/scaling.json", ROOT / "docs/scaling.md"

COSTS = Costs(
    front_end=Cost(each_batch_us=1_000, each_trade_us=200),
    leader=Cost(each_batch_us=2_000, each_trade_us=100),
    follower=Cost(each_batch_us=500, each_trade_us=50),
    catalog=Cost(each_batch_us=800, each_trade_us=70),
    call_us=300,
    answer_us=200,
    generator_us=50,
    fsync_ms=4,
)
ALONE_S = (1_000 + 200 + 2_000 + 100 + 500 + 50 + 800 + 70) / 1e6 + 2 * 4e-3
"""One customer's trade: everybody's work and two commits, one after the other; but for one follower's word."""


@pytest.fixture
def _even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job takes its mean."""
    monkeypatch.setattr(engine, "VARIATION", 1e-4)


def world(seconds: float = 1.0, seed: int = 1, warm_up_s: float = 0.0, **setting: object) -> World:
    made = World(Setting(**setting), COSTS, seed, warm_up_s)  # type: ignore[arg-type]
    made.simulation.run(warm_up_s + seconds)
    return made


def taken(made: World) -> list[float]:
    return made.outcome.seconds[False] + made.outcome.seconds[True]


# The engine.


def test_things_happen_in_the_order_of_their_times_when_they_were_asked_for_in_another() -> None:
    simulation, seen = Simulation(1), list[str]()
    for seconds, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        simulation.after(seconds, lambda name=name: seen.append(f"{name} {simulation.now}"))  # type: ignore[misc]
    simulation.run(5.0)
    assert seen == ["a 1.0", "b 1.0", "c 2.0"]
    assert simulation.now == 5.0


@pytest.mark.usefixtures("_even")
@pytest.mark.parametrize(("cores", "ends"), [(1, [1, 2, 3]), (2, [1, 1, 2]), (None, [1, 1, 1])])
def test_processes_share_the_cores_when_there_are_fewer_than_they(cores: int | None, ends: list[int]) -> None:
    simulation, seen = Simulation(1), list[float]()
    machine = None if cores is None else Machine(cores)
    processes = [Process(simulation, machine) for _ in range(3)]
    for process in processes:
        process.do(1.0, lambda: seen.append(simulation.now))
    simulation.run(10.0)
    assert seen == pytest.approx(ends, rel=0.01)
    assert [process.busy_s for process in processes] == pytest.approx([1, 1, 1], rel=0.01)


@pytest.mark.usefixtures("_even")
def test_core_is_free_while_a_process_waits_for_its_disk_and_the_process_is_not() -> None:
    simulation, seen = Simulation(1), list[tuple[str, float]]()
    machine = Machine(1)
    one, other = Process(simulation, machine), Process(simulation, machine)
    one.wait(5.0, lambda: seen.append(("written", simulation.now)))
    one.do(1.0, lambda: seen.append(("next", simulation.now)))
    other.do(1.0, lambda: seen.append(("other", simulation.now)))
    simulation.run(10.0)
    assert [name for name, _ in seen] == ["other", "written", "next"]
    assert [at for _, at in seen] == pytest.approx([1, 5, 6], rel=0.01)


# The rules.


@pytest.mark.usefixtures("_even")
def test_trade_takes_what_its_steps_take_when_there_is_one_customer() -> None:
    seconds = taken(world(connections=1))
    word = 0.1 * (2_000 - 200) / 1e6  # both followers have answered before; the second word is waited for
    assert len(seconds) > 10
    assert seconds == pytest.approx([ALONE_S] * len(seconds), abs=2 * word)


@pytest.mark.usefixtures("_even")
@pytest.mark.parametrize(
    ("far", "trips"), [({"door"}, 1), ({"customers"}, 2), ({"followers"}, 1), ({"customers", "followers"}, 3)]
)
def test_round_trips_are_added_when_something_is_far_away(far: set[str], trips: int) -> None:
    near = world(5.0, connections=2, front_ends=2)
    far_away = world(60.0, connections=2, front_ends=2, far_s=1.0, far=frozenset(far))
    slowest = max(taken(far_away)) - max(taken(near))
    # A customer's trade may also wait for a decision under way, which holds one trip when caches are far away.
    assert 2.0 * trips - 0.1 <= slowest <= 2.0 * (trips + ("customers" in far) + ("followers" in far)) + 0.1


def test_batches_are_as_few_as_the_rules_say_when_there_are_many_customers() -> None:
    crowd = world(connections=64)
    assert max(crowd.outcome.front_end_batches) > 1
    assert sum(crowd.outcome.front_end_batches) - len(taken(crowd)) in range(65), "a trade travelled twice, or never"
    assert sum(crowd.outcome.leader_batches) <= sum(crowd.outcome.front_end_batches)
    batches = crowd.outcome.front_end_batches
    assert len(batches) <= BATCHES_IN_FLIGHT * (len(crowd.outcome.leader_batches) + BATCHES_IN_FLIGHT)


@pytest.mark.parametrize("numbers", ["own sequences", "blocks", "one sequence"])
def test_order_number_is_given_once_when_shards_are_many(numbers: Numbers) -> None:
    made = world(connections=48, shards=3, front_ends=3, popularity=(0.5, 0.3, 0.2), numbers=numbers)
    given = made.outcome.numbers
    assert len(given) > 1_000
    assert len(set(given)) == len(given)
    highest = Counter[int]()
    for shard, number in given:
        highest[shard] = max(highest[shard], number)
    if numbers == "blocks":
        assert len(given) <= highest[0] <= len(given) + 3 * 2 * BLOCK
    else:
        assert sum(highest.values()) == len(given), "there is a gap"
    assert (made.allocator.process.busy_s > 0) == (numbers != "own sequences")


SIX = {"shards": 6, "front_ends": 6, "popularity": (1 / 6,) * 6}


def test_shards_do_not_disturb_each_other_when_each_has_its_own_front_ends() -> None:
    crowd = {"think_s": 0.05, "warm_up_s": 0.3}
    one = world(connections=150, **crowd)  # type: ignore[arg-type]
    six = world(connections=6 * 150, doors="own", **SIX, **crowd)  # type: ignore[arg-type]
    assert len(taken(six)) == pytest.approx(6 * len(taken(one)), rel=0.15)


@pytest.mark.usefixtures("_even")
def test_every_further_front_end_is_one_call_more_when_all_are_told_of_every_decision() -> None:
    own = world(connections=1, doors="own", **SIX)  # type: ignore[arg-type]
    told = world(connections=1, doors="all", **SIX)  # type: ignore[arg-type]
    assert median(taken(told)) - median(taken(own)) == pytest.approx(5 * COSTS.call_us / 1e6, rel=0.05)


def test_same_seed_gives_the_same_trades() -> None:
    first, again, other = (
        taken(world(0.3, seed, connections=8, shards=2, popularity=(0.5, 0.5))) for seed in (5, 5, 6)
    )
    assert first == again != other


@pytest.mark.parametrize("popularity", ["equal", "skewed", "skewed, unplaced"])
def test_parts_of_all_trades_are_one_together(popularity: str) -> None:
    parts = shares(popularity, 16, 1_000, seed=3)  # type: ignore[arg-type]
    assert sum(parts) == pytest.approx(1)
    assert len(parts) == 16


def test_no_placing_helps_when_one_stock_is_more_popular_than_a_shard_can_be() -> None:
    hottest = 1 / sum(1 / place for place in range(1, 1_001))
    assert max(shares("skewed", 16, 1_000, seed=3)) == pytest.approx(hottest)
    assert max(shares("skewed, unplaced", 16, 1_000, seed=3)) > hottest


# Costs.


def made_bench(batch: float) -> BenchResult:
    """A benchmark in which 100 connections travel `batch` together."""

    def cpu(size: float) -> dict[str, float]:
        return {
            "front-end-1": 1_000 / size + 200,
            "order-3": 2_000 / size + 100,
            "order-1": 500 / size + 40,
            "order-2": 500 / size + 60,
            "catalog": 800 / size + 70,
        }

    look_up = {"front-end-1": 90.0, "front-end-2": 490.0, "catalog": 210.0}
    samples = [make_sample("trade", 100 * n, connections=n, cpu_us=cpu(batch if n > 1 else 1)) for n in (1, 100)]
    samples += [make_sample(kind, connections=1, cpu_us=look_up) for kind in ("look_up_cached", "look_up_uncached")]
    return make_result(*samples, commits_ms=[0.3, 0.5, 0.4])


def test_costs_are_found_when_the_batches_are_known() -> None:
    costs = costs_of(made_bench(25), {"front_end": 25, "leader": 25})
    assert (costs.front_end.each_batch_us, costs.front_end.each_trade_us) == pytest.approx((1_000, 200))
    assert (costs.catalog.each_batch_us, costs.catalog.each_trade_us) == pytest.approx((800, 70))
    assert (costs.follower.each_batch_us, costs.follower.each_trade_us) == pytest.approx((500, 50))
    assert (costs.call_us, costs.answer_us, costs.fsync_ms) == (400, 210, 0.4)


def test_simulation_is_refused_when_the_benchmark_lacks_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="no trades"):
        measured(make_result(make_sample("trade")))
    bench = made_bench(25)
    bench.samples = [each for each in bench.samples if each.subject == "trade"]
    with pytest.raises(CannotDo, match="no look_up_cached"):
        costs_of(bench, {"front_end": 25, "leader": 25})
    with pytest.raises(CannotDo, match="bazaar bench makes one"):
        read_bench(tmp_path / "none.json")
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(CannotDo, match="no result"):
        read_bench(tmp_path / "odd.json")


# As a whole.


def test_result_is_written_and_drawn_again_when_it_is_simulated_quickly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = chosen_settings(quick=True, seed=7).model_copy(
        update={"shards": (1, 2), "trades": 200, "far_ms": (1.0,), "front_ends_of_one": (1,)}
    )
    assert run_command(settings, BENCH, tmp_path, as_json=True) == 0
    result = Result.model_validate_json(capsys.readouterr().out)
    assert Result.model_validate_json((tmp_path / "scaling.json").read_text()) == result
    again = simulate(settings, read_bench(BENCH))
    assert (again.checks, again.series, again.distances) == (result.checks, result.series, result.distances)
    (tmp_path / "scaling.png").unlink()
    assert plot_result(result, tmp_path) == [tmp_path / "scaling.png"]
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_committed_result_is_whole_and_near_what_was_measured() -> None:
    result = Result.model_validate_json(COMMITTED.read_text())
    assert [(each.doors, each.popularity, each.numbers) for each in result.series] == list(SERIES)
    assert result.settings.shards == (1, 2, 4, 8, 16)
    assert {each.measured.connections for each in result.checks} >= {1, 32, 128}
    assert all(abs(each.error) < 0.35 for each in result.checks)


def test_document_has_the_figures_of_the_committed_result() -> None:
    """docs/scaling.md is written by hand, so it is held against the result that it shows."""
    result = Result.model_validate_json(COMMITTED.read_text(encoding="utf-8"))
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = [
        f"| {was.connections} | {was.per_second:,.0f} ({was.low:,.0f} to {was.high:,.0f}) | {now.per_second:,.0f} | "
        f"{check.error:+.0%} | {was.p50_ms:.1f} | {now.p50_ms:.1f} | {was.p99_ms:.0f} | {now.p99_ms:.0f} |"
        for check in result.checks
        for was, now in [(check.measured, check.simulated)]
    ]
    rows += [
        f"| {many} | {each.per_second:,.0f} | {each.p50_ms:.0f} | {each.busy['front-end']:.0%} | "
        f"{each.busy['leader']:.0%} | {each.busy['catalog']:.0%} |"
        for many, each in result.front_ends.items()
    ]
    for series in result.series:
        if series.numbers == "own sequences":
            cells = (
                f"{each.per_second:,.0f} ({each.p50_ms:.0f}, {each.p99_ms:.0f})" for each in series.points.values()
            )
            rows.append(f"| {series.doors} | {series.popularity} | {' | '.join(cells)} |")
        if series.few:
            rows.append(f"| {', '.join(f'{each.p50_ms:.1f}' for each in series.few.values())} |")
    for layout in dict.fromkeys(each.layout for each in result.distances):
        found = [each for each in result.distances if each.layout == layout and each.far_ms in {1.0, 10.0, 40.0}]
        rows.append(
            "| " + " | ".join(f"{one.near_p50_ms:.0f} / {one.far_p50_ms:,.0f} ({one.per_second:,.0f})" for one in found)
        )
    assert [row for row in rows if row not in text] == []
    assert f"`{result.settings.command}`" in text
