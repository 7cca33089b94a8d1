"""What watches a bazaar finds what it asks for: metrics, alerts, dashboard, logs and traces of real processes."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import ROOT
from tests.support.span_receiver import SpanReceiver
from tests.support.system_bazaar import Bazaar
from tests.system.conftest import MakeCluster

MONITORING = ROOT / "docs" / "monitoring"
NAME = re.compile(r"\b(?:bazaar|process)_[a-z_]+\b")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def names_in(text: str) -> set[str]:
    """The metrics that an expression, or a whole file, speaks of."""
    return set(NAME.findall(text))


async def live_names(bazaar: Bazaar) -> set[str]:
    """The metrics of all services, as Prometheus would store them."""
    names = set()
    for service in bazaar.cluster.topology.services:
        answer = await bazaar.http.get(f"{service.internal_url}/metrics")
        for family in text_string_to_metric_families(answer.text):
            names |= {sample.name for sample in family.samples}
    return names


async def test_every_metric_of_dashboard_and_alerts_is_there_when_a_bazaar_runs(bazaar: Bazaar) -> None:
    async with bazaar.customer() as customer:
        await customer.trade("buy", "Apple", 1)
        await customer.look_up("Apple")
    live = await live_names(bazaar)
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    expressions += [each["expr"] for each in dashboard["annotations"]["list"]]
    assert len(expressions) > 20
    assert names_in(" ".join(expressions)) <= live
    alerts = "\n".join(line for line in (MONITORING / "alerts.yml").read_text().splitlines() if "#" not in line)
    assert names_in(alerts) <= live


def test_every_alert_is_explained_and_has_a_test() -> None:
    alerts = re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    assert alerts
    explained = (ROOT / "docs" / "operations.md").read_text()
    tested = (MONITORING / "alerts_test.yml").read_text()
    assert [alert for alert in alerts if f"`{alert}`" not in explained] == []
    assert [alert for alert in alerts if alert not in tested] == []


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; on Debian it comes with the package prometheus")
    said = subprocess.run([promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


async def test_request_id_of_a_client_is_in_the_leaders_log(bazaar: Bazaar) -> None:
    """From the front-end to the leader, and on to what the leader does for the trade's sake.

    The leader looks at its followers by itself as well, and may find the dead one before a trade does.
    """
    leader = await bazaar.cluster.leader()
    follower = next(each.name for each in bazaar.cluster.topology.of("order") if each.name != leader)
    trade = {"name": "Apple", "type": "sell", "quantity": 1}
    for number in range(10):
        visit = {"X-Request-Id": f"visit-{number}"}
        await bazaar.cluster.wait_level()
        await bazaar.http.post(f"{bazaar.url}/orders", json=trade)  # so the follower was heard of just now
        await bazaar.cluster.kill(follower)
        answer = await bazaar.http.post(f"{bazaar.url}/orders", json=trade, headers=visit)
        assert (answer.status_code, answer.headers["x-request-id"]) == (201, visit["X-Request-Id"])
        said = [line for line in bazaar.cluster.events(leader) if line["event"] == "a follower is not waited for"]
        await bazaar.cluster.start(follower)
        await bazaar.cluster.wait_ready()
        if "request_id" in said[-1]:
            assert said[-1]["request_id"] == visit["X-Request-Id"]
            return
    raise AssertionError("no line of the leader says which request it was for")


async def test_logs_hold_json_and_no_line_for_each_request(bazaar: Bazaar) -> None:
    """Health is checked ten times a second; what is not said of these checks is not said of customers' requests."""
    async with bazaar.customer() as customer:
        for _ in range(20):
            await customer.look_up("Apple")
    for path in (bazaar.cluster.data_dir / "logs").glob("*.log"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all({"timestamp", "level", "service", "event"} <= set(line) for line in lines), path
        assert not re.search(r"livez|readyz|/status|/stocks|HTTP/1", path.read_text()), path


async def test_spans_of_a_trade_reach_the_exporter_from_every_service(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SpanReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with make_cluster(replicas=2) as cluster, httpx.AsyncClient(timeout=60.0) as client:
            leader = await cluster.leader()
            other = "order-1" if leader == "order-2" else "order-2"
            trade = {"name": "Apple", "type": "buy", "quantity": 1}
            headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            answer = await client.post(f"{cluster.urls[0]}/orders", json=trade, headers=headers)
            assert answer.status_code == 201
            wanted = {
                ("bazaar-front-end-1", "POST /orders"),
                ("bazaar-front-end-1", "POST /trades"),
                (f"bazaar-{leader}", "POST /trades"),
                (f"bazaar-{leader}", "POST /decide"),
                ("bazaar-catalog", "POST /decide"),
                ("bazaar-catalog", "POST /invalidate"),
                ("bazaar-front-end-1", "POST /invalidate"),
                (f"bazaar-{leader}", "POST /append"),
                (f"bazaar-{other}", "POST /append"),
            }

            async def has_all() -> bool:
                return wanted <= receiver.names(TRACE)

            await cluster.wait_until(has_all, "every span of the trade has been received")
            assert receiver.traces == {TRACE}, "nothing else has a trace: no report, no renewal, no health check"


def test_example_files_are_those_that_the_document_names() -> None:
    said = (ROOT / "docs" / "operations.md").read_text()
    assert [each.name for each in sorted(Path(MONITORING).iterdir()) if f"monitoring/{each.name}" not in said] == []
