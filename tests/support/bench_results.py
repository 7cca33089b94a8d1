"""Results of a benchmark, made by hand."""

from datetime import UTC, datetime
from typing import Any

from eval.bench.results import Result, Sample, Size, Subject
from eval.machine import Machine

LITTLE = Size(orders=1_000, stocks=20)
MOST = Size(orders=5_000_000, stocks=20)
MACHINE = Machine(
    processor="a processor", cores=2, memory_gib=8.0, system="Linux", python="3.11.7", sqlite="3.51.3", packages={},
    commit="0123456789ab",
)  # fmt: skip


def make_sample(subject: Subject, per_second: float = 1_000, **changes: Any) -> Sample:
    members: dict[str, Any] = {
        "round": 1, "size": LITTLE, "connections": 32, "requests": round(per_second), "errors": 0, "seconds": 1.0,
        "p50_ms": 10.0, "p99_ms": 20.0, "cpu_us": {"catalog": 100.0, "order-1": 50.0}, "generator_share": 0.2,
    }  # fmt: skip
    return Sample(subject=subject, **members | changes)


def make_result(*samples: Sample, **changes: Any) -> Result:
    return Result(
        command="bazaar bench", machine=MACHINE, data_on="ext4", generator="wrk", rounds=1, seconds=1.0,
        started_at=datetime(2027, 1, 2, tzinfo=UTC), samples=list(samples), **changes,
    )  # fmt: skip
