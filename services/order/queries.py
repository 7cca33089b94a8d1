"""Reading orders: from this replica's disk when it is there, else after a look at the catalog's head.

"There is no such order" is said only by a replica that had everything decided before the question was asked.
"""

import asyncio

from services.common.errors import Unavailable
from services.common.models import OrderAnswer, OrdersAnswer
from services.common.timing import LOOK_UP_S
from services.order.catalog_link import CatalogLink
from services.order.log import OrderLog

AGAIN_S = 0.05


class Queries:
    """Order queries on one replica."""

    def __init__(self, log_: OrderLog, link: CatalogLink) -> None:
        self._log = log_
        self._link = link

    async def order(self, number: int) -> OrderAnswer:
        """The order, or none for certain. Raises Unavailable when that cannot be found out in time."""
        order = self._log.order(number)
        if order is None:
            await self._refreshed()
            order = self._log.order(number)
        return OrderAnswer(generation=self._log.require_generation(), order=order)

    async def orders(self, after: int, limit: int) -> OrdersAnswer:
        """A page of orders; one that reaches the end is read again at the catalog's head."""
        page = self._page(after, limit)
        if page.next is None:
            await self._refreshed()
            page = self._page(after, limit)
        return page

    def _page(self, after: int, limit: int) -> OrdersAnswer:
        found = self._log.orders(after, limit + 1)
        page = found[:limit]
        following = page[-1].number if len(found) > limit else None
        return OrdersAnswer(generation=self._log.require_generation(), orders=page, next=following)

    async def _refreshed(self) -> None:
        try:
            async with asyncio.timeout(LOOK_UP_S):
                while not await self._link.refresh():  # noqa: ASYNC110 - the catalog sends no event when it is back
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise Unavailable("this replica cannot reach the catalog; try again") from None
