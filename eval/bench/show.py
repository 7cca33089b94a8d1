"""A benchmark for human eyes: a bar while it goes on, tables at the end, and the goals last."""

from rich.console import Console
from rich.table import Table

from eval.bench.goals import USUAL, cpu_us, per_second
from eval.bench.load import BOTTLENECK
from eval.bench.results import LABELS, Goal, Result, Sample, Subject
from eval.bench.statistics import Measure, by_round, spread
from eval.tables import new_table, number, span


def print_result(result: Result, console: Console) -> None:
    """Print the tables, what is to be doubted, and the goals last."""
    console.print(samples_table(result))
    console.print(processes_table(result))
    if result.scale:
        console.print(scale_table(result))
    console.print(goals_table(result.goals))
    for line in facts(result):
        console.print(line, soft_wrap=True)
    for line in doubts(result):
        console.print(line, style="yellow", soft_wrap=True)


def samples_table(result: Result) -> Table:
    """One row for each subject at each number of connections."""
    table = new_table("Side by side: median (lowest to highest) of all rounds", "subject")
    for heading in ("connections", "requests/s", "p50 ms", "p99 ms", "CPU us each"):
        table.add_column(heading, justify="right")
    for connections in _connections(result.samples):
        for subject, label in LABELS.items():
            figures = [spread(_values(result.samples, subject, connections, measure)) for measure in MEASURES]
            if figures[0] is not None:
                table.add_row(label, str(connections), *(span(each) for each in figures))
        table.add_section()
    return table


def processes_table(result: Result) -> Table:
    """What each process uses of the processor for one request."""
    connections = usual(result.samples)
    table = new_table(f"Processor time a request by process, us, {connections} connections", "subject")
    table.add_column("by process")
    for subject, label in LABELS.items():
        cpu = process_cpu_us(result.samples, subject, connections)
        if cpu:
            table.add_row(label, ", ".join(f"{name} {used:,.0f}" for name, used in cpu.items()))
    return table


def scale_table(result: Result) -> Table:
    """One row for each size, with the medians."""
    table = new_table(f"As it grows: medians, {USUAL} connections", "size")
    subjects = [subject for subject in LABELS if any(each.subject == subject for each in result.scale)]
    for subject in subjects:
        table.add_column(f"{LABELS[subject]}/s", justify="right")
        table.add_column("CPU us", justify="right")
    for heading in ("bazaar ready s", "replica ready s", "replica MiB"):
        table.add_column(heading, justify="right")
    for size in dict.fromkeys(each.size for each in result.starts):
        starts = [each for each in result.starts if each.size == size]
        cells = [
            spread(list(by_round(result.scale, subject, USUAL, measure, size).values()))
            for subject in subjects
            for measure in (per_second, cpu_us)
        ]
        cells += [spread([each.ready_s for each in starts]), spread([each.replica_ready_s for each in starts])]
        cells.append(spread([each.rss_mib["order-1"] for each in starts]))
        table.add_row(str(size), *(number(each.median) if each is not None else "-" for each in cells))
    return table


def goals_table(goals: list[Goal]) -> Table:
    """One row for each goal."""
    table = new_table("Goals", "goal")
    for heading in ("wanted", "measured", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for goal in goals:
        words = {None: "not measured", True: "reached", False: "NOT REACHED"}[goal.is_reached]
        table.add_row(goal.text, goal.wanted, span(goal.measured), words)
    return table


def facts(result: Result) -> list[str]:
    """Under which conditions it was measured."""
    machine = result.machine
    system = f"{machine.system}, Python {machine.python}, data on {result.data_on}"
    effort = f"{result.rounds} rounds of {result.seconds:g} s each, {result.duration_s:,.0f} s in all"
    lines = [
        f"{machine.processor}, {machine.cores} cores, {system}",
        f"{result.command}, commit {machine.commit}, {effort}, load by {result.generator}",
    ]
    commits = spread(result.commits_ms)
    if commits is not None:
        lines.append(f"one durable commit {span(commits)} ms")
    return lines


def doubts(result: Result) -> list[str]:
    """What makes figures worth less: errors, and a generator that had no time left."""
    samples = result.samples + result.scale
    lines = [
        f"{LABELS[each.subject]}, {each.connections} connections, round {each.round}: {each.errors:,} errors"
        for each in samples
        if each.errors
    ]
    busy = {(each.subject, each.connections) for each in samples if each.generator_share > BOTTLENECK}
    lines += [
        f"{LABELS[subject]}, {connections} connections: the generator of load was the bottleneck, the server is faster"
        for subject, connections in sorted(busy)
    ]
    return lines


def usual(samples: list[Sample]) -> int:
    """32 connections, or the number that was measured and comes nearest."""
    return min(_connections(samples), key=lambda each: abs(each - USUAL))


def process_cpu_us(samples: list[Sample], subject: Subject, connections: int) -> dict[str, float]:
    """Median processor time of each process for one request; the supervisor's is not among them."""
    mine = [each for each in samples if (each.subject, each.connections) == (subject, connections)]
    names = mine[0].cpu_us if mine else {}
    medians = {name: spread([each.cpu_us[name] for each in mine]) for name in names}
    return {name: each.median for name, each in medians.items() if each is not None}


MEASURES: tuple[Measure, ...] = (per_second, lambda sample: sample.p50_ms, lambda sample: sample.p99_ms, cpu_us)


def _connections(samples: list[Sample]) -> list[int]:
    return sorted({each.connections for each in samples})


def _values(samples: list[Sample], subject: Subject, connections: int, measure: Measure) -> list[float]:
    return list(by_round(samples, subject, connections, measure).values())
