"""Real bazaars for the system tests: each has its own data folder and ports, and leaves no process behind."""

import sys
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster

HERE = Path(__file__).parent
HAS_FAILED = pytest.StashKey[bool]()

MakeCluster = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a system test."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know at their end whether the test failed."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[HAS_FAILED] = True
    return report


@pytest.fixture
def make_cluster(tmp_path: Path) -> MakeCluster:
    """Makes bazaars with flags of the test's choice, not started yet; the test enters them with `async with`."""

    def make(*flags: str, name: str = "data", **options: int) -> Cluster:
        return Cluster(tmp_path / name, *flags, **options)

    return make


@pytest.fixture
async def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A running bazaar as `bazaar up` starts it: 3 replicas, 1 front-end."""
    async with Cluster(tmp_path / "data") as running:
        yield running
        if request.node.stash.get(HAS_FAILED, False):
            sys.stdout.write(running.logs())
