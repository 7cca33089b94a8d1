"""How a bazaar is, in one sentence: healthy, degraded (all is served, less is spare) or down (no trade can be done).

Plain values in, words out. The control room, `bazaar status` and the tests read the same ones.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from services.cluster.views import ServiceView

Condition = Literal["healthy", "degraded", "down"]


class FailOver(BaseModel):
    """One front-end's change from a leader that failed to another one. Times are milliseconds since 1970.

    struck_ms: when the one before was killed, was paused or died, None when nothing of that is known. noticed_ms: when
    the front-end found it silent. first_trade_ms: when a trade was first accepted afterwards.
    """

    front_end: str
    before: str
    leader: str
    cause: str | None = None
    struck_ms: int | None = None
    noticed_ms: int
    selected_ms: int
    first_trade_ms: int | None = None

    @property
    def began_ms(self) -> int:
        """When trades began to wait."""
        return self.noticed_ms if self.struck_ms is None else self.struck_ms

    @property
    def took_ms(self) -> int:
        """From the failure to the choice of another leader."""
        return self.selected_ms - self.began_ms

    @property
    def sentence(self) -> str:
        """What happened, with the time of each step since the first."""
        steps = [("noticed", self.noticed_ms), ("selected", self.selected_ms)]
        if self.first_trade_ms is not None:
            steps.append(("first trade", self.first_trade_ms))
        measured = ", ".join(f"{step} after {duration(at - self.began_ms)}" for step, at in steps)
        what = f"{self.before} {self.cause}" if self.cause else f"{self.before} did not answer"
        return f"{self.leader} leads now: {what}; {measured}"


class Event(BaseModel):
    """Something that happened, in a sentence. `at_ms`: milliseconds since 1970."""

    at_ms: int
    service: str
    text: str
    fail_over: FailOver | None = None


class Health(BaseModel):
    """`sentence` says all that matters now; `fail_over` how long the last change of leader took, if there was one.

    leader: whom a front-end that runs has selected; None when nobody leads.
    """

    condition: Condition
    sentence: str
    leader: int | None = None
    fail_over: str | None = None


UNKNOWN = Health(condition="down", sentence="Nothing is known.")


def judge(services: Sequence[ServiceView], last: FailOver | None = None, now_ms: int = 0) -> Health:
    """How the bazaar is as a whole."""
    replicas = [each for each in services if each.name.startswith("order-")]
    leader = next((each.leader for each in services if each.state == "running" and each.leader is not None), None)
    leads = f"order-{leader} leads" if leader is not None else "nobody leads"
    caught_up = f"{count_level(services)} of {len(replicas)} replicas are caught up"
    if not _catalog_answers(services):
        caught_up = "whether the replicas are caught up is not known"
    blocked = _blocked(services, leader)
    troubles = [f"{each.name} {_trouble(each)}" for each in services if _trouble(each) is not None]
    if blocked is not None:
        condition: Condition = "down"
        sentence = f"Down: {blocked}. {_capital(leads)}, {caught_up}."
    elif troubles:
        condition = "degraded"
        sentence = f"Degraded: {', '.join(troubles)}. {_capital(leads)}, {caught_up}."
    else:
        condition = "healthy"
        sentence = f"Healthy: {leads}, {caught_up}."
    fail_over = describe_last(last, now_ms) if last is not None else None
    return Health(condition=condition, sentence=sentence, leader=leader, fail_over=fail_over)


def count_level(services: Sequence[ServiceView]) -> int:
    """How many replicas have all that was decided."""
    return sum(1 for each in services if each.state == "running" and each.level)


def describe_last(last: FailOver, now_ms: int) -> str:
    """The last fail-over, in the words of the status line."""
    ago = max(now_ms - last.selected_ms, 0) // 1_000
    when = "just now" if ago < 2 else f"{ago} s ago" if ago < 120 else f"{ago // 60} min ago"
    if ago >= 7_200:
        when = f"{ago // 3_600} h ago"
    return f"Last fail-over {when}: {last.before} to {last.leader} in {duration(last.took_ms)}."


def duration(milliseconds: int) -> str:
    """A short time: `14 ms`, `1.25 s`."""
    return f"{milliseconds} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.2f} s"


def _blocked(services: Sequence[ServiceView], leader: int | None) -> str | None:
    """Why no trade can be done at this moment, None when it can."""
    catalogs = [each for each in services if _is_catalog(each)]
    if not any(each.state == "running" for each in catalogs):
        which = "no catalog runs" if len(catalogs) > 1 else f"the catalog is {_state(next(iter(catalogs), None))}"
        return f"{which}, so nothing can be bought or sold"
    if not _catalog_answers(services):
        return "the catalog does not answer yet, so nothing can be bought or sold"
    if not any(each.name.startswith("front-end-") and each.state == "running" for each in services):
        return "no front-end runs, so customers reach nobody"
    if leader is None:
        return "no replica leads, so trades wait"
    state = next((each.state for each in services if each.name == f"order-{leader}"), "running")
    return f"order-{leader} leads and is {state}, so trades wait" if state != "running" else None


def _catalog_answers(services: Sequence[ServiceView]) -> bool:
    return any(_is_catalog(each) and each.head is not None for each in services)


def _is_catalog(service: ServiceView) -> bool:
    return service.name == "catalog" or service.name.startswith("catalog-")


def _trouble(service: ServiceView) -> str | None:
    if service.state != "running":
        return f"is {service.state}"
    if service.name.startswith("order-") and not service.level:
        return "does not answer" if service.level is None else "is not caught up"
    if service.name.startswith("front-end-") and service.leader is None:
        return "has no leader"
    return None


def _state(service: ServiceView | None) -> str:
    return "missing" if service is None else service.state


def _capital(text: str) -> str:
    return text if text.startswith("order-") else text[0].upper() + text[1:]
