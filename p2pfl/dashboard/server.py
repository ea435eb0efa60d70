"""The page's server: this machine's loopback alone, read-only, and nothing to anybody who has no session.

Every answer carries a policy under which a browser runs the one script of the shell, loads nothing, and shows the page
in no other. Names in Host and Origin must be this machine's own, so that no page elsewhere reaches it under a name that
was rebound to 127.0.0.1. Nothing is logged, and no request is repeated to its sender.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import uvicorn
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from p2pfl.dashboard.charts import LEFT
from p2pfl.dashboard.keys import Doorkeeper

TEMPLATES: Final = Path(__file__).parent / "templates"
LOOK_S: Final = 1.0  # seconds between looks at the home
WAIT_S: Final = 20.0  # most seconds until a browser is told that nothing has changed
MOST_CALLERS: Final = 32  # at a time
HEAD_S: Final = 10.0  # most seconds until they are in
MOST_HEAD: Final = 16 << 10  # bytes of a request's line and headers
PART_S: Final = 1  # most seconds to part from browsers at the end
BEARER: Final = "Bearer "

Look = Callable[[], Mapping[str, Any]]


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


class OriginGuard:
    """`app` for callers that know this machine by one of its own names and the right port, with headers on all."""

    def __init__(self, app: ASGIApp, port: int, policy: str) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._headers = [
            (b"content-security-policy", policy.encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":  # websockets are not served; start and end are the app's own
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        why = self._refusal(scope)
        answer: ASGIApp = PlainTextResponse(why, 403) if why else self._app
        await answer(scope, receive, marked)

    def _refusal(self, scope: Scope) -> str:
        said: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            said.setdefault(name.lower(), []).append(value.decode("latin-1").lower())
        if len(said.get(b"host", [])) != 1 or said[b"host"][0] not in self._hosts:
            return "a name of this machine only\n"
        origins = {f"http://{host}" for host in self._hosts}
        if any(one not in origins for one in said.get(b"origin", [])):
            return "from its own page only\n"
        if any(one not in ("same-origin", "none") for one in said.get(b"sec-fetch-site", [])):
            return "from its own page only\n"
        return ""


class Dashboard:
    """The pages. look: what there is to see at this moment, plain values; called in a thread, never twice at once.

    Where that cannot be read, `look` gives `failed` alone: site, what happened, code, evidence, and what to try.
    """

    def __init__(self, look: Look, door: Doorkeeper, now: Callable[[], float] = time.monotonic) -> None:
        self._look, self._door, self._now = look, door, now
        self._lock = asyncio.Lock()
        self._seen: tuple[float, str, str] = (float("-inf"), "", "")  # when, digest, text
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._view, self._failed = map(environment.get_template, ("view.html", "failed.html"))
        script, style = _text("page.js"), _text("page.css")
        shell = environment.get_template("shell.html")
        self._shell = shell.render(script=Markup(script), style=Markup(style))
        self.policy = (
            f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def app(self, port: int) -> ASGIApp:
        """For a server at that port."""
        routes = [
            Route("/", self._page, methods=["GET"]),
            Route("/session", self._session, methods=["POST"]),
            Route("/view", self._changes, methods=["GET"]),
        ]
        return OriginGuard(Starlette(routes=routes), port, self.policy)

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(self._shell)  # holds nothing of the site

    async def _session(self, request: Request) -> Response:
        session = self._door.enter(_bearer(request))
        if session is None:
            return JSONResponse({"error": "this link was used, or is of an earlier start"}, 403)
        return JSONResponse({"session": session})

    async def _changes(self, request: Request) -> Response:
        """What is to be seen, once it is another than the caller has (`seen`, a digest); 204 where it stays so."""
        if not self._door.knows(_bearer(request)):
            return JSONResponse({"error": "no session"}, 403)
        had, until = request.query_params.get("seen", ""), self._now() + WAIT_S
        while True:
            digest, text = await self._current()
            if digest != had:
                return HTMLResponse(text, headers={"x-seen": digest})
            if self._now() >= until or await request.is_disconnected():
                return Response(status_code=204)
            await asyncio.sleep(LOOK_S)

    async def _current(self) -> tuple[str, str]:
        async with self._lock:
            if self._now() - self._seen[0] >= LOOK_S:
                text = await asyncio.to_thread(self._rendered)
                self._seen = (self._now(), hashlib.sha256(text.encode("utf-8")).hexdigest(), text)
            return self._seen[1], self._seen[2]

    def _rendered(self) -> str:
        seen = self._look()
        return (self._failed if "failed" in seen else self._view).render(left=LEFT, **seen)


def _bearer(request: Request) -> str:
    said = request.headers.get("authorization", "")
    return said.removeprefix(BEARER) if said.startswith(BEARER) else ""


class Impatient(H11Protocol):
    """A caller has HEAD_S for a request's line and headers; one that sends them bit by bit holds a place no longer."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time runs from here on."""
        super().connection_made(transport)
        self._watch()

    def handle_events(self) -> None:
        """It stops once there is a request to answer."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """And runs anew for the next one."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        super().connection_lost(exc)
        self._stop()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = None


def config_of(dashboard: Dashboard, port: int) -> uvicorn.Config:
    """How it is served: in memory and callers bounded, nothing logged, nothing said of the server."""
    return uvicorn.Config(
        dashboard.app(port),
        log_config=None,
        access_log=False,
        log_level="critical",
        server_header=False,
        date_header=False,
        limit_concurrency=MOST_CALLERS,
        h11_max_incomplete_event_size=MOST_HEAD,
        http=Impatient,
        ws="none",
        timeout_graceful_shutdown=PART_S,
    )


def serve(dashboard: Dashboard, listening: socket.socket) -> None:
    """Answer on a socket that listens on loopback, until the process is interrupted."""
    port = int(listening.getsockname()[1])
    uvicorn.Server(config_of(dashboard, port)).run(sockets=[listening])
