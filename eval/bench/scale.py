"""Does it stay as fast as it grows: long logs, many stocks, a replica that has everything to catch up with."""

from pathlib import Path

from eval.bench.goals import USUAL
from eval.bench.logs import check_room
from eval.bench.processes import bazaar
from eval.bench.results import BAZAAR, CatchUp, Size, Start, Subject
from eval.bench.run import Bench, Work, data_folder, load_of, targets_of, write_databases
from eval.bench.usage import rss_mib
from services.catalog.stocks_file import MAX_STOCKS

ORDERS = (1_000, 100_000)  # and the most
STOCKS = (1_000, MAX_STOCKS)
MISSED = 1_000_000
REPLICAS = 3


def sizes(most_orders: int) -> list[Size]:
    """Logs of three lengths over few stocks, then more stocks with the shortest log."""
    lengths = sorted({each for each in ORDERS if each < most_orders} | {most_orders})
    return [Size(orders=each, stocks=20) for each in lengths] + [
        Size(orders=lengths[0], stocks=each) for each in STOCKS
    ]


def steps(bench: Bench) -> int:
    """How often `bench.on_step` is called in `measure_scale`."""
    count = len(sizes(bench.settings.most_orders))
    return count + 1 + bench.settings.rounds * (count + 1)


def check_scale(bench: Bench) -> None:
    """Raise CannotDo when the disk has no room for it, before anything is measured."""
    most = bench.settings.most_orders
    with data_folder() as folder:
        rows = max(sum(size.orders for size in sizes(most)), min(most, MISSED))
        check_room(folder, rows * REPLICAS)


async def measure_scale(bench: Bench) -> None:
    """Every size in turn, in every round with a fresh start; then the catching up. Raises CannotDo."""
    with data_folder() as folder:
        folders = {size: folder / f"{size.orders}-{size.stocks}" for size in sizes(bench.settings.most_orders)}
        for size, place in folders.items():
            bench.on_step(f"writing {size}")
            await write_databases(place, size)
        for number in range(1, bench.settings.rounds + 1):
            for size, place in folders.items():
                bench.on_step(f"round {number}, {size}")
                await _measure_size(bench, place, size, number)
    with data_folder() as folder:
        await _measure_catch_up(bench, folder)


async def _measure_size(bench: Bench, place: Path, size: Size, number: int) -> None:
    subjects: tuple[Subject, ...] = tuple(each for each in bench.settings.subjects if each in BAZAAR)
    async with bazaar(place) as running, targets_of(running, subjects) as targets:
        works = [Work(subject, targets[subject], load_of(subject, targets[subject], size)) for subject in subjects]
        await bench.warm_up(works)
        for work in works:
            bench.result.scale.append(await bench.measure(work, size, USUAL, number))
        rss = rss_mib(running.target.pids)
        replica_ready_s = await running.start_again("order-1")
        bench.result.starts.append(
            Start(
                round=number,
                size=size,
                ready_s=round(running.ready_s, 3),
                replica_ready_s=round(replica_ready_s, 3),
                rss_mib=rss,
            )
        )


async def _measure_catch_up(bench: Bench, folder: Path) -> None:
    missed = min(MISSED, bench.settings.most_orders)
    bench.on_step(f"writing {missed:,} orders for a replica to miss")
    await write_databases(folder, Size(orders=missed, stocks=20))
    async with bazaar(folder) as running:
        for number in range(1, bench.settings.rounds + 1):
            bench.on_step(f"round {number}, a replica that missed {missed:,} orders")
            await running.processes.act("order-1", "kill")
            _lose_disk(folder)
            orders, seconds = await running.catch_up("order-1", missed)
            bench.result.catch_ups.append(CatchUp(round=number, orders=orders, seconds=round(seconds, 3)))


def _lose_disk(folder: Path) -> None:
    for path in folder.glob("order-1.db*"):
        path.unlink()
