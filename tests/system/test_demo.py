"""`bazaar demo` as it is run, with little load; nothing is left of it, also when it is interrupted."""

import signal
from pathlib import Path

import pytest

from client.bazaar import BazaarClient
from eval.demo.story import Story
from services.cluster.folder import read_cluster
from tests.support.experiment import experiment


@pytest.mark.slow
async def test_no_order_is_lost_when_the_leader_is_killed_in_the_demo(tmp_path: Path) -> None:
    async with experiment(tmp_path, "eval.demo", "--seconds", "0.9", has_results=False) as run:
        code, output, errors = await run.end()
        assert (code, errors) == (0, ""), output
        assert list(run.data.iterdir()) == [], "its data is gone"
    story = Story.model_validate_json(output)
    verdict, customer, fail_over, back = story.verdict, story.customer, story.fail_over, story.back
    assert verdict is not None
    assert verdict.passed
    assert verdict.text.startswith("0 orders lost, 3 of 3 databases identical, longest wait ")
    assert verdict.orders == verdict.asked == verdict.files.orders > 0
    assert customer is not None
    assert (customer.before[0].cache, customer.after.cache) == ("miss", "miss")
    assert customer.before[-1].quantity - customer.bought == customer.after.quantity
    assert fail_over is not None
    assert fail_over.selected != fail_over.victim
    assert fail_over.first_ms is not None
    assert back is not None
    assert back.replica == fail_over.victim
    assert back.missed > 0


@pytest.mark.slow
async def test_nothing_is_left_when_the_demo_is_interrupted(tmp_path: Path) -> None:
    async with experiment(tmp_path, "eval.demo", has_results=False) as run:
        await run.wait_until(run.has_begun)
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == (130, "", "")
        assert list(run.data.iterdir()) == []


@pytest.mark.slow
async def test_bazaar_runs_on_after_the_verdict_when_it_is_kept(tmp_path: Path) -> None:
    async with experiment(tmp_path, "eval.demo", "--seconds", "0.3", "--keep", has_results=False) as run:
        assert run.process.stdout is not None
        story = Story.model_validate_json(await run.process.stdout.readuntil(b"\n}\n"))
        assert story.verdict is not None
        assert story.verdict.passed
        assert story.customer is not None
        cluster = read_cluster(next(run.data.iterdir()))
        async with BazaarClient(cluster.of("front-end")[0].url) as client:
            order = await client.order(1)
        assert order is not None
        assert (order.name, order.quantity) == (story.customer.stock, story.customer.bought)
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == (0, "", "")
        assert list(run.data.iterdir()) == []
