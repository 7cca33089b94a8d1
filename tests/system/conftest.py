"""Real bazaars for the system tests.

Most tests share one, because starting one costs seconds. After every test it is checked as a whole (`Bazaar.check`);
when a test or its check failed, the next test gets a new one. Tests may run in any order and in several processes.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.cluster import Cluster
from tests.support.system_bazaar import Bazaar, Stage

HERE = Path(__file__).parent
HAS_FAILED = pytest.StashKey[bool]()

SHARED = ("limited_bazaar", "small_bazaar", "bazaar")

MakeCluster = Callable[..., Cluster]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is a system test. Tests that share a bazaar run together, in one event loop."""
    mine = [item for item in items if HERE in item.path.parents]
    for item in mine:
        item.add_marker(pytest.mark.system)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    others = [item for item in items if item not in mine]
    items[:] = others + sorted(mine, key=_shared_bazaar)


def _shared_bazaar(item: pytest.Item) -> str:
    names = item.fixturenames if isinstance(item, pytest.Function) else []
    return next((shared for shared in SHARED if shared in names), "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know at their end whether the test failed."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[HAS_FAILED] = True
    return report


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Where the shared bazaars stand, one at a time."""
    shared = Stage(tmp_path_factory.mktemp("stage"))
    yield shared
    await shared.clear()


@pytest_asyncio.fixture(loop_scope="session")
async def bazaar(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Bazaar]:
    """A shared bazaar of 3 replicas and 2 front-ends: everything runs at first, and must be sound at the end."""
    async with stage.lend("usual", replicas=3, front_ends=2, has_failed=lambda: _has_failed(request)) as lent:
        yield lent


@pytest_asyncio.fixture(loop_scope="session")
async def small_bazaar(stage: Stage, request: pytest.FixtureRequest) -> AsyncIterator[Bazaar]:
    """Another one, of 2 replicas and 1 front-end without a cache."""
    flags = ("--cache-size", "0")
    async with stage.lend("small", *flags, replicas=2, front_ends=1, has_failed=lambda: _has_failed(request)) as lent:
        yield lent


LIMITS = {
    "MAX_CONNECTIONS": "20",
    "MAX_REQUESTS": "10",
    "ARRIVAL_TIMEOUT_S": "3600",  # what is held open stays open
    "REFUSED_TRADES_PER_S": "0.001",
    "REFUSED_TRADES_BURST": "5",
}


@pytest_asyncio.fixture(loop_scope="session")
async def limited_bazaar(
    stage: Stage, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bazaar]:
    """One whose front-end has small limits, as settings in the environment: `LIMITS`."""
    for name, value in LIMITS.items():
        monkeypatch.setenv(f"BAZAAR_{name}", value)
    async with stage.lend("limited", replicas=2, front_ends=1, has_failed=lambda: _has_failed(request)) as lent:
        yield lent


def _has_failed(request: pytest.FixtureRequest) -> bool:
    node: pytest.Item = request.node
    return node.stash.get(HAS_FAILED, False)


@pytest.fixture
def make_cluster(tmp_path: Path) -> MakeCluster:
    """Makes bazaars with flags of the test's choice, not started yet; the test enters them with `async with`."""

    def make(*flags: str, name: str = "data", **options: int) -> Cluster:
        return Cluster(tmp_path / name, *flags, **options)

    return make
