"""Who may speak to the control room's page: pages that came from here, opened under an address of ours.

The page stands on a port of this machine, so any page in any browser here could send to it. Three things keep others
out. The *Host* must be an IP address, localhost or the name the listener was given: a stranger's name that was made to
lead here (DNS rebinding) is none of these. A browser says from where a request comes (*Origin*, *Sec-Fetch-Site*): from
elsewhere it is refused. And whatever changes something needs a *token*, made at the start of this process and told in
the stream that only a page of ours can read; it cannot be sent by a form or guessed (CSRF).

It keeps out pages, not people: whoever reaches the port may do what the page can. It listens on loopback unless told
otherwise.
"""

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.app import error_response
from services.common.errors import Forbidden

TOKEN_HEADER = "x-bazaar-token"  # noqa: S105 - the name of the header, not a token

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Door:
    """Passes on what comes from our own page; `host` is the name or address that the listener was given."""

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app = app
        self._token = token
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        complaint = self._complaint(scope["method"], Headers(scope=scope))
        if complaint is not None:
            await error_response(Forbidden(complaint))(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, send_safely)

    def _complaint(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not is_ours(host, self._host):
            return "this page is opened under the machine's address, or localhost"
        if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return "this request comes from another page"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "this request comes from another page"
        if method not in {"GET", "HEAD"} and not self._knows_token(headers.get(TOKEN_HEADER, "")):
            return "the token is missing or of an earlier run; load the page again"
        return None

    def _knows_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())


def is_ours(host: str, own: str) -> bool:
    """Whether this Host header names an address, which nobody can have lead here from elsewhere, or our own name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ip_address(name)
    except ValueError:
        return name in {"localhost", own.lower()}
    return True
