"""Logging in and out: the login page, one-time links, and the sessions that come of them.

`GET /login` changes nothing, so that whatever looks at a link beforehand (previews, scanners) does not use it up: the
page holds a form, which a script sends at once and a button sends where there is none.
"""

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from anamnesis.contracts.base import now
from anamnesis.contracts.errors import ErrorEnvelope
from anamnesis.contracts.keys import (
    Identity,
    KeyCreate,
    KeyCreated,
    KeyKind,
    KeysRevoked,
    LoginLink,
    Scope,
    Session,
)
from anamnesis.kit.auth import Needs, ServiceKey, Way, key_hash
from anamnesis.kit.client import ServiceClient
from anamnesis.kit.errors import AnamnesisError, BadRequest, Forbidden, Invalid, NotFound, Stalled, Unauthorized
from anamnesis.kit.logs import logger
from anamnesis.kit.settings import presentable
from services.gateway.entrance import browsers, places, sessions
from services.gateway.entrance.links import Links, Ticket
from services.gateway.entrance.origin import same_origin
from services.gateway.entrance.rates import Rates, address

FILES = Path(__file__).parents[1] / "dashboard"
STATIC = {"/static/login.css": "text/css", "/static/login.js": "text/javascript"}
"""What the login page needs, and what is therefore open to all."""
OPENED = frozenset({Way("GET", "/login"), Way("POST", "/login"), *(Way("GET", path) for path in STATIC)})
READING = frozenset({"/logout"})
"""Not a GET, and yet for keys of the scope `read`."""
MAX_FORM = 8 << 10  # bytes
FORM_WITHIN = 10.0  # seconds for the form of a stranger to arrive
MAKING = 10.0  # seconds for memory to make or end a session
ATTEMPTS = "10/minute"  # of one address


class Form(NamedTuple):
    """What the login page sends: a link's token or a key, and where to go afterwards."""

    token: str
    key: str
    next: str


class Admission(NamedTuple):
    """What somebody is let in by, and how far that goes."""

    scope: Scope
    ticket: Ticket | None = None
    parent: str | None = None
    until: datetime | None = None


class Login:
    """Lets browsers in and out. Memory keeps their sessions; the links are kept here."""

    def __init__(self, memory: ServiceClient, holder: ServiceKey, days: float, attempts: str = ATTEMPTS) -> None:
        """`memory` is spoken to with the key between services; a session lasts `days`."""
        self._memory = memory
        self._holder = holder
        self._days = days
        self._links = Links()
        self._attempts = Rates(attempts)
        self._template = Environment(
            loader=FileSystemLoader(FILES / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        ).get_template("login.html")

    def link(self, maker: Identity) -> LoginLink:
        """A link that ends, with whoever came in by it, when the key that it was made with is revoked."""
        own = maker.key_id if maker.scope is not Scope.SERVICE and maker.kind is KeyKind.API else maker.parent
        token, expires_at = self._links.make(own)
        return LoginLink(path=f"/login?token={token}", expires_at=expires_at)

    def page(self, request: Request, form: Form, error: AnamnesisError | None = None) -> Response:
        """The login page, with what went wrong before."""
        text = self._template.render(
            root=request.scope.get("root_path", ""),
            token=form.token if error is None else "",
            next=places.safe(form.next),
            error=error.message if error is not None else None,
        )
        headers: dict[str, str] = {}
        if error is not None and (after := getattr(error, "retry_after", None)) is not None:
            headers["Retry-After"] = str(after)
        return Response(text, error.status if error is not None else 200, headers, "text/html")

    async def enter(self, request: Request) -> Response:
        """Let a browser in by what it has sent, or show it the page again with the reason."""
        form = Form("", "", "")
        try:
            if (refusal := await self._attempts.count(address(request))) is not None:
                refusal.message = f"Too many attempts from this address ({refusal.message}). Try again in a minute."
                raise refusal
            if not same_origin(request):
                raise Forbidden("This did not come from the login page. Open the page itself and try again.")
            form = await _form(request)
            admission = await self._admit(request, form)
            if admission is None:  # a link that has been used, in a browser that it had let in
                return places.redirect(request, places.safe(form.next))
            try:
                session = await self._begin(request, admission)
            except BaseException:
                if admission.ticket is not None:
                    self._links.put_back(admission.ticket)
                raise
        except AnamnesisError as error:
            return self.page(request, form, error)
        await self._end_former(request)
        response = places.redirect(request, places.safe(form.next))
        sessions.keep(response, request, session)
        return response

    async def leave(self, request: Request, identity: Identity) -> Response:
        """End the session that the request came in by."""
        if sessions.session_key(request) is None or identity.kind is not KeyKind.BROWSER:
            raise BadRequest("this request came with a key and not in a browser's session; to end a key, revoke it")
        await self._revoke(identity)
        response = places.redirect(request, "/login") if places.wants_page(request) else Response(status_code=204)
        sessions.drop(response, request)
        return response

    async def _admit(self, request: Request, form: Form) -> Admission | None:
        """By a link or a key. None: the link is no good any more, but the browser is logged in already."""
        if form.token:
            ticket = self._links.take(form.token)
            if ticket is not None:
                return Admission(Scope.ADMIN, ticket=ticket, parent=ticket.parent)
            if await self._present(request) is not None:
                return None
            raise Unauthorized(
                "This link has been used, or is older than a day, or the gateway has been started anew since. "
                "'anamnesis login' makes another one."
            )
        if not form.key:
            raise Invalid("Enter an API key, or open a link that 'anamnesis login' prints.")
        identity = await self._holder.identify(key_hash(form.key)) if presentable(form.key) else None
        if identity is None:
            raise Unauthorized("This is no key that is known here. Has it been revoked, or has it expired?")
        if identity.scope is Scope.SERVICE:
            raise Forbidden("This is the key between the services, which is for them alone. Use an API key.")
        return Admission(identity.scope, parent=identity.key_id, until=identity.expires_at)

    async def _begin(self, request: Request, admission: Admission) -> KeyCreated:
        days = self._days
        if admission.until is not None:
            days = min(days, max(1e-6, (admission.until - now()).total_seconds() / 86_400))
        wish = KeyCreate.model_validate(
            {
                "name": browsers.name(request.headers.get("user-agent", "")),
                "scope": admission.scope,
                "expires_in_days": days,
                "kind": KeyKind.BROWSER,
                "parent": admission.parent,
            }
        )
        return await self._memory.request("POST", "/api/keys", KeyCreated, body=wish, deadline=MAKING)

    async def _end_former(self, request: Request) -> None:
        """The session that this browser had before: nobody would ever end it."""
        try:
            former = await self._present(request)
            if former is not None:
                await self._revoke(former)
        except AnamnesisError as error:
            logger().warning("former session not ended", error=error.code)

    async def _present(self, request: Request) -> Identity | None:
        """Whose session is in the browser's cookie, where it is one."""
        key = sessions.cookie_key(request)
        identity = await self._holder.identify(key_hash(key)) if key is not None else None
        return identity if identity is not None and identity.kind is KeyKind.BROWSER else None

    async def _revoke(self, identity: Identity) -> None:
        with contextlib.suppress(NotFound):  # it has ended already
            await self._memory.request("DELETE", f"/api/keys/{identity.key_id}", KeysRevoked, deadline=MAKING)
        self._holder.forget()


async def _form(request: Request) -> Form:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Invalid("The login page sends a form; programs send their key with each request and need no login.")
    try:
        async with asyncio.timeout(FORM_WITHIN):
            body = await request.body()
        fields = parse_qs(body.decode("ascii"), max_num_fields=10, errors="replace")
    except TimeoutError:
        raise Stalled("The form did not arrive in time. Try again.") from None
    except ValueError:
        raise Invalid("This is no form of the login page. Open the page itself and try again.") from None
    token, key, place = (fields.get(name, [""])[0].strip() for name in Form._fields)
    return Form(token, key, place)


def routes(login: Login) -> APIRouter:
    router = APIRouter(tags=["login"])
    refused = {"model": ErrorEnvelope}

    @router.get("/", include_in_schema=False)
    async def home(request: Request) -> Response:
        return places.redirect(request, places.HOME)

    @router.get("/login", include_in_schema=False)
    async def page(request: Request, token: str = "", next: str = "") -> Response:
        return login.page(request, Form(token[:200], "", next))

    @router.post("/login", include_in_schema=False)
    async def enter(request: Request) -> Response:
        return await login.enter(request)

    @router.post("/logout", status_code=204, response_class=Response, responses={303: {}, 400: refused})
    async def leave(request: Request) -> Response:
        """End the browser's session; where a page is wanted, go to the login page."""
        return await login.leave(request, request.state.identity)

    @router.get("/api/session")
    async def session(request: Request) -> Session:
        """Who the caller is, and the token that a page must send with what changes something."""
        return Session(identity=request.state.identity, csrf_token=sessions.csrf_token(request) or None)

    @router.post("/api/login-links", status_code=201)
    async def link(maker: Annotated[Identity, Depends(Needs(Scope.ADMIN))]) -> LoginLink:
        """Make a link that logs a browser in, once, within a day, and for as long as the key that makes it is good."""
        return login.link(maker)

    def give(path: str, kind: str) -> None:
        body = (FILES / path.lstrip("/")).read_bytes()

        async def static() -> Response:
            return Response(body, media_type=kind, headers={"Cache-Control": "no-cache"})

        router.add_api_route(path, static, include_in_schema=False)

    for path, kind in STATIC.items():
        give(path, kind)
    return router
