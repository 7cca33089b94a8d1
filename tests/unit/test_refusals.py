"""The limit on refused trades: token buckets, with time handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import TooManyRefusals
from services.front_end import refusals
from services.front_end.refusals import RefusalLimit, payer_of

HERE = "192.0.2.1"


def refuse(limit: RefusalLimit, now: float, address: str = HERE) -> bool:
    """Whether a trade that is going to be refused gets as far as that."""
    try:
        limit.check(address, now)
    except TooManyRefusals:
        return False
    limit.charge(address, now)
    return True


def test_burst_is_let_through_and_no_more_when_no_time_passes() -> None:
    limit = RefusalLimit(rate=2, burst=5)
    assert [refuse(limit, 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.turned_away == 2


def test_one_more_is_let_through_when_a_token_has_come_back() -> None:
    limit = RefusalLimit(rate=2, burst=1)
    assert refuse(limit, 100.0)
    assert not refuse(limit, 100.25)
    assert refuse(limit, 100.5)
    assert not refuse(limit, 100.5)


def test_burst_is_no_larger_when_nothing_happened_for_long() -> None:
    limit = RefusalLimit(rate=10, burst=3)
    assert refuse(limit, 0.0)
    assert [refuse(limit, 1e6) for _ in range(4)] == [True] * 3 + [False]


def test_wait_is_whole_seconds_until_a_token_is_there_when_turned_away() -> None:
    limit = RefusalLimit(rate=0.25, burst=1)
    limit.charge(HERE, 0.0)
    for now, wait in ((0.0, 4), (0.5, 4), (1.0, 3), (3.5, 1)):
        with pytest.raises(TooManyRefusals) as turned_away:
            limit.check(HERE, now)
        assert turned_away.value.retry_after_s == wait
    limit.check(HERE, 4.0)


def test_debt_is_paid_off_first_when_many_trades_were_under_way_at_once() -> None:
    limit = RefusalLimit(rate=1, burst=1)
    for _ in range(10):
        limit.check(HERE, 0.0)
    for _ in range(10):
        limit.charge(HERE, 0.0)
    assert not refuse(limit, 9.9)
    assert refuse(limit, 10.0)


def test_others_are_let_through_when_one_address_has_no_token() -> None:
    limit = RefusalLimit(rate=1, burst=1)
    assert refuse(limit, 0.0)
    assert not refuse(limit, 0.0)
    assert refuse(limit, 0.0, "192.0.2.2")


def test_everything_is_let_through_and_nothing_kept_when_the_rate_is_0() -> None:
    limit = RefusalLimit(rate=0, burst=1)
    assert all(refuse(limit, 0.0) for _ in range(1_000))
    assert not limit._buckets


def test_longest_uncharged_address_is_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MAX_ADDRESSES", 3)
    limit = RefusalLimit(rate=1, burst=2)
    for address in "abcad":
        limit.charge(address, 0.0)
    assert list(limit._buckets) == ["c", "a", "d"]
    assert not refuse(limit, 0.0, "a")


@given(
    st.floats(0.1, 1_000),
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 20)), max_size=50),
)
def test_refusals_are_never_more_than_burst_and_rate_allow(
    rate: float, burst: int, flood: list[tuple[float, int]]
) -> None:
    limit = RefusalLimit(rate, burst)
    now = 0.0
    through = 0
    for pause, trades in flood:
        now += pause
        through += sum(refuse(limit, now) for _ in range(trades))
        assert through <= burst + rate * now + 1e-6


@pytest.mark.parametrize(
    ("host", "payer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a.socket", "a.socket"),
    ],
)
def test_one_bucket_pays_for_all_that_one_customer_has(host: str, payer: str) -> None:
    assert payer_of(host) == payer
