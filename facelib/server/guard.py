"""Who may talk to the local application: a browser of this machine that has its address, and no other page in it."""

import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 4_000_000  # bytes of a request
HEADERS = {
    # Scripts, styles and pictures come from the application alone; nothing goes anywhere else.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # no face stays in the browser's folder
}
WRONG_TOKEN = "This address is not, or no longer, that of an album. Open the one that facelib has printed.\n"


class Guard:
    """Refuses requests without the token, of other origins, and to other host names.

    The token is the first part of the path, and no cookie: browsers send cookies to all ports of a machine, and with
    requests that another page makes. The host is checked against DNS rebinding.

    Args:
        app: gets the requests that pass, without the token.
        token: of this run.
        port: of the application.
    """

    def __init__(self, app: ASGIApp, token: str, port: int):
        self.app, self.token = app, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        _, token, *rest = (scope["path"] + "/").split("/", 2)
        if problem := self._problem(scope["method"], headers):
            response = PlainTextResponse(problem + "\n", 403)
            await response(scope, receive, send_with_headers)
        elif not secrets.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            await PlainTextResponse(WRONG_TOKEN, 404)(scope, receive, send_with_headers)
        elif scope["path"] == f"/{token}":  # addresses in the page are relative
            await RedirectResponse(f"/{token}/")(scope, receive, send_with_headers)
        else:
            path = "/" + rest[0].removesuffix("/")
            await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, send_with_headers)

    def _problem(self, method: str, headers: Mapping[str, str]) -> str:
        """Why a request is refused, or ""."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return "refused: another host name"
        if origin is not None and origin not in {f"http://{name}" for name in self.hosts}:
            return "refused: a page of another origin"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "refused: a request of another site"
        if method == "GET":
            return ""
        if method != "POST" or origin is None:
            return "refused: changes are made by the page of the album alone"
        if headers.get("content-type", "").partition(";")[0] != "application/json":
            return "refused: expected JSON"
        length = headers.get("content-length", "")
        return "" if length.isdecimal() and int(length) <= MAX_BODY else "refused: too large"
