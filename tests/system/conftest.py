"""Real bazaars for the system tests.

Most tests share one, because starting one costs seconds. After every test it is checked as a whole (`Bazaar.check`);
when a test or its check failed, the next test gets a new one.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster
from tests.support.system_bazaar import Bazaar, Standing

HERE = Path(__file__).parent
HAS_FAILED = pytest.StashKey[bool]()

MakeCluster = Callable[..., Cluster]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a system test, and all of them live in one event loop, as the shared bazaars do."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.system)
            if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know at their end whether the test failed."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[HAS_FAILED] = True
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standing]:
    """The shared bazaar: 3 replicas, 2 front-ends."""
    shared = Standing(tmp_path_factory.mktemp("standing"), replicas=3, front_ends=2)
    yield shared
    await shared.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def small_standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standing]:
    """Another one: 2 replicas, 1 front-end, no cache."""
    shared = Standing(tmp_path_factory.mktemp("small"), "--cache-size", "0", replicas=2, front_ends=1)
    yield shared
    await shared.close()


@pytest_asyncio.fixture(loop_scope="session")
async def bazaar(standing: Standing, request: pytest.FixtureRequest) -> AsyncIterator[Bazaar]:
    """The shared bazaar for one test: everything runs at its beginning, and must be sound at its end."""
    async with standing.lent(lambda: request.node.stash.get(HAS_FAILED, False)) as lent:
        yield lent


@pytest_asyncio.fixture(loop_scope="session")
async def small_bazaar(small_standing: Standing, request: pytest.FixtureRequest) -> AsyncIterator[Bazaar]:
    """The small shared bazaar for one test."""
    async with small_standing.lent(lambda: request.node.stash.get(HAS_FAILED, False)) as lent:
        yield lent


@pytest.fixture
def make_cluster(tmp_path: Path) -> MakeCluster:
    """Makes bazaars with flags of the test's choice, not started yet; the test enters them with `async with`."""

    def make(*flags: str, name: str = "data", **options: int) -> Cluster:
        return Cluster(tmp_path / name, *flags, **options)

    return make
