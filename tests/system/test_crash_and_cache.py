"""`bazaar evaluate cache` and `bazaar evaluate crash` as they are run, small; nothing is left when interrupted."""

import signal
from pathlib import Path

import pytest

from eval.cache_replacement.results import Result
from eval.cache_replacement.results import differences as differences_from_the_book
from eval.crash.report import Report
from tests.support.experiment import Experiment, experiment

PNG = b"\x89PNG"


async def output_of(run: Experiment) -> str:
    """What it printed; it must have ended well, said nothing else, and cleaned up."""
    code, output, errors = await run.end()
    assert (code, errors) == (0, ""), f"{code}\n{output}\n{errors}"
    assert list(run.data.iterdir()) == [], "its data is gone"
    return output


@pytest.mark.slow
async def test_front_end_does_what_an_lru_does_when_its_cache_is_evaluated(tmp_path: Path) -> None:
    async with experiment(tmp_path, "eval.cache_replacement", "--quick", "--seed", "7") as run:
        text = await output_of(run)
    result = Result.model_validate_json(text)
    assert (run.results / "cache_replacement.json").read_text() == text
    assert all((run.results / name).read_bytes().startswith(PNG) for name in ("replacement.png", "hit_ratio.png"))
    assert result.problems == []
    for trace in result.traces:
        assert differences_from_the_book(trace.capacity, trace.steps) == []
        assert any(step.cache == "hit" for step in trace.steps)
        assert any(step.evicted for step in trace.steps)
        assert any(step.invalidated for step in trace.steps)
        assert max(len(step.entries) for step in trace.steps) == trace.capacity
    quiet = [each for each in result.samples if not each.sessions_lost]
    assert all(each.header_hits == each.model_hits == each.hits for each in quiet)
    assert all(each.invalidations == 0 for each in quiet if each.p == 0)
    by_condition = {(each.capacity, each.popularity, each.p): each.hit_ratio for each in quiet}
    assert by_condition.get((15, "zipf", 0.0), 1.0) > by_condition.get((5, "zipf", 0.0), 0.0)


@pytest.mark.slow
async def test_no_client_notices_and_all_files_are_the_same_when_replicas_are_killed(tmp_path: Path) -> None:
    async with experiment(tmp_path, "eval.crash", "--quick", "--rounds", "2", "--seed", "1") as run:
        text = await output_of(run)
    report = Report.model_validate_json(text)
    assert (run.results / "crash.json").read_text() == text
    assert all((run.results / name).read_bytes().startswith(PNG) for name in ("timeline.png", "kills.png"))
    assert (report.passed, report.problems, report.errors) == (True, [], [])
    assert sorted(each.kill.was_leader for each in report.rounds) == [False, True]
    for each in report.rounds:
        assert each.verify.startswith("3 of 3 replicas hold the same ")
        assert each.seen.checked == each.seen.acknowledged > 0
        assert each.files.same
        assert each.kill.first_ms is not None
        assert (each.kill.selected_ms is not None) == each.kill.was_leader
        assert each.began_s < each.killed_s < each.started_s < each.level_s <= each.ended_s
    assert report.files is not None
    assert report.files.orders == sum(each.seen.acknowledged for each in report.rounds)
    assert report.answers.files_are_the_same


@pytest.mark.slow
@pytest.mark.parametrize(("module", "is_judged"), [("eval.cache_replacement", False), ("eval.crash", True)])
async def test_nothing_is_left_when_an_experiment_is_interrupted(tmp_path: Path, module: str, is_judged: bool) -> None:
    async with experiment(tmp_path, module) as run:
        await run.wait_until(run.has_begun)
        run.process.send_signal(signal.SIGINT)
        code, output, errors = await run.end()
    assert code == 130
    assert run.results.exists() is is_judged
    if is_judged:
        assert errors.startswith("stopping after this round")
        report = Report.model_validate_json(output)
        assert (report.is_stopped, report.problems, report.errors) == (True, [], [])
