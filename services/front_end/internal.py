"""The internal API of a front-end: the catalog's words about the session, and a look inside for the supervisor."""

from fastapi import FastAPI, Request, Response

from services.common.direct import direct
from services.common.errors import BazaarError, NotFound
from services.common.models import (
    CacheState,
    CacheSwitch,
    FrontEndStatus,
    InvalidateRequest,
    Message,
    SessionNotice,
    SessionNoticeAnswer,
)
from services.common.wire import message_response, read_message
from services.front_end.front_end import FrontEnd


class RemovedAnswer(Message):
    """Whether the stock was in the cache."""

    removed: bool


class NoCache(BazaarError):
    """This front-end was started without a cache, so there is none to turn on."""

    code = 409
    message = "this front-end was started without a cache; start it with a --cache-size"


def _answer(is_mine: bool) -> SessionNoticeAnswer:
    return SessionNoticeAnswer(outcome="mine" if is_mine else "not_mine")


def add_internal_routes(app: FastAPI, front_end: FrontEnd) -> None:
    """The routes of the internal listener."""
    cache = front_end.cache

    @app.post("/sessions/confirm")
    async def confirm_session(request: Request) -> SessionNoticeAnswer:
        """Whether this front-end is opening that session at this moment."""
        notice = await read_message(request, SessionNotice)
        async with cache.lock:
            return _answer(cache.is_opening(notice.session))

    @app.post("/sessions/recall")
    async def recall_session(request: Request) -> SessionNoticeAnswer:
        """End a session for ever; when this has been answered, nothing of it can be hit."""
        notice = await read_message(request, SessionNotice)
        async with cache.lock:
            return _answer(cache.recall(notice.session))

    @direct(app, "POST", "/invalidate")
    async def invalidate(request: Request) -> Response:
        """Forget stocks that are about to change; when this has been answered, their old state cannot be hit."""
        message = await read_message(request, InvalidateRequest)
        async with cache.lock:
            return message_response(_answer(cache.invalidate(message.session, message.generation, message.floors)))

    @app.get("/status")
    async def status() -> FrontEndStatus:
        """What this front-end says of itself."""
        return front_end.status()

    @app.post("/cache")
    async def switch_cache(request: Request) -> CacheState:
        """Turn the cache on or off; when off has been answered, nothing can be hit."""
        wanted = await read_message(request, CacheSwitch)
        if not cache.capacity:
            raise NoCache
        await front_end.keeper.switch(on=wanted.on)
        return front_end.cache_state()

    @app.get("/rm")
    async def remove(request: Request) -> RemovedAnswer:
        """Drop one stock from the cache."""
        name = request.query_params.get("name")
        if name is None:
            raise NotFound("there is no such stock")
        return RemovedAnswer(removed=await front_end.stocks.drop(name))
