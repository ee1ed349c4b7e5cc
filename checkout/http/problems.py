"""Every way the API says no: RFC 9457 problem+json, with a type that never changes its name.

A refusal is raised as `Problem`, or as one of Django's, DRF's or the database's own exceptions, and
leaves through `problem_handler`.
"""

import json
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, Error, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.template import loader
from django.views.defaults import bad_request, page_not_found, server_error
from rest_framework import exceptions
from rest_framework.utils.encoders import JSONEncoder

from checkout.commit import DatabaseAway, is_lost

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProblemType:
    """One kind of refusal; `slug` is the last part of its `type`, which clients compare."""

    slug: str
    status: int
    title: str


PROBLEMS: Final = {
    kind.slug: kind
    for kind in (
        ProblemType("bad-request", 400, "The request cannot be understood"),
        ProblemType("malformed-body", 400, "The body is not JSON"),
        ProblemType("idempotency-key-missing", 400, "The Idempotency-Key header is missing"),
        ProblemType("idempotency-key-invalid", 400, "The Idempotency-Key header is not usable"),
        ProblemType("unauthenticated", 401, "A valid API key is needed"),
        ProblemType("bad-signature", 401, "The webhook is not signed by the processor"),
        ProblemType("not-found", 404, "There is nothing here"),
        ProblemType("method-not-allowed", 405, "This method is not allowed here"),
        ProblemType("not-acceptable", 406, "Answers are JSON"),
        ProblemType("country-not-served", 409, "No processor may serve this country"),
        ProblemType("creator-exists", 409, "A creator with this external id exists"),
        ProblemType("idempotency-key-in-use", 409, "The first request with this key still runs"),
        ProblemType("conflict", 409, "The request contradicts what is stored"),
        ProblemType("length-required", 411, "The body's length is missing"),
        ProblemType("body-too-large", 413, "The body is too large"),
        ProblemType("unsupported-media-type", 415, "The body must be application/json"),
        ProblemType("validation-failed", 422, "Some fields are not usable"),
        ProblemType("idempotency-key-reused", 422, "This key was used for another request"),
        ProblemType("internal-error", 500, "Something is wrong on our side"),
        ProblemType("database-away", 503, "The database is away for a moment"),
    )
}
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"
API_PREFIX: Final = "/v1/"
CHALLENGE: Final = 'Bearer realm="checkout"'
MOST_ERRORS: Final = 20
# The first that fits; RequestDataTooBig is a SuspiciousOperation, so it stands before it.
_KINDS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (exceptions.NotAuthenticated, "unauthenticated", "Send Authorization: Bearer <API key>."),
    (exceptions.AuthenticationFailed, "unauthenticated", "The API key is unknown or revoked."),
    (exceptions.ParseError, "malformed-body", "The body is not JSON."),
    (exceptions.NotFound, "not-found", "No such address or object."),
    (Http404, "not-found", "No such address or object."),
    (exceptions.MethodNotAllowed, "method-not-allowed", "The Allow header lists the methods."),
    (exceptions.NotAcceptable, "not-acceptable", "Accept application/json."),
    (exceptions.UnsupportedMediaType, "unsupported-media-type", "Send application/json."),
    (RequestDataTooBig, "body-too-large", "A body holds at most 256 kB."),
    (SuspiciousOperation, "bad-request", "The request is not usable."),
    (BadRequest, "bad-request", "The request is not usable."),
    (UnreadablePostError, "bad-request", "The body ended before its announced length."),
    (exceptions.APIException, "bad-request", "The request is not usable."),
    (IntegrityError, "conflict", "Another request stored a contradicting row first."),
    (DataError, "validation-failed", "A value cannot be stored."),
)


@dataclass
class Problem(Exception):
    """A request is refused: `slug` is a key of PROBLEMS; `errors` are (field, message) pairs.

    `members` are added to the document, `headers` to the answer. Nothing in it repeats a value
    that a client sent in a free field: the value could be a card number.
    """

    slug: str
    detail: str
    errors: tuple[tuple[str, str], ...] = ()
    members: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> HttpResponse:
        """The problem document (RFC 9457)."""
        kind = PROBLEMS[self.slug]
        document: dict[str, object] = {
            "type": f"/problems/{kind.slug}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            **self.members,
        }
        if self.errors:
            document["errors"] = [{"field": name, "message": said} for name, said in self.errors]
        return answered(
            as_json(document),
            status=kind.status,
            media_type=PROBLEM_MEDIA_TYPE,
            headers=self.headers,
        )


def problem_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's exception handler: every refusal as a problem; None for a defect of ours (500)."""
    problem = _problem_of(error)
    if problem is None:
        return None
    response = problem.response()
    if response.status_code == 401 and problem.slug == "unauthenticated":
        response["WWW-Authenticate"] = CHALLENGE
    if response.status_code == 405:
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def _problem_of(error: Exception) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, exceptions.ValidationError):
        errors = tuple(islice(field_errors(error.detail), MOST_ERRORS))
        return Problem("validation-failed", "See errors.", errors)
    if _is_away(error):
        logger.warning("database away", extra={"error": type(error).__name__})
        return _database_away()
    for kind, slug, detail in _KINDS:
        if isinstance(error, kind):
            if isinstance(error, Error):
                # Serializers should have refused it: answer the client, and tell ourselves.
                logger.error("the database refused a request", extra={"problem": slug})
            return Problem(slug, detail)
    return None


def _is_away(error: BaseException) -> bool:
    """Also what is not tried again: a lock or a statement that took too long."""
    return isinstance(error, DatabaseAway | OperationalError) or is_lost(error)


def _database_away() -> Problem:
    """Clients come back spread over some seconds, with the same Idempotency-Key."""
    again = str(2 + secrets.randbelow(4))
    return Problem(
        "database-away",
        "It is not known whether the request took effect; repeat it with the same Idempotency-Key.",
        headers={"Retry-After": again},
    )


def field_errors(detail: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Flatten DRF's nested errors into (field, message); `a.b[0]` names what is nested."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from field_errors(inner, f"{path}.{own}".strip("."))
    elif isinstance(detail, list | tuple):
        for inner in detail:
            yield from field_errors(inner, path)
    else:
        yield path, str(detail)


def answer_400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own refusals (a bad Host, say), outside any view."""
    if request.path.startswith(API_PREFIX):
        return Problem("bad-request", "The request is not usable.").response()
    return bad_request(request, exception)


def answer_404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """No address matches."""
    if request.path.startswith(API_PREFIX):
        return Problem("not-found", "No such address.").response()
    return page_not_found(request, exception)


def answer_500(request: HttpRequest) -> HttpResponse:
    """A defect of ours: logged by Django with its trace, told to nobody."""
    if request.path.startswith(API_PREFIX):
        return Problem("internal-error", "It was logged; repeat with the same key.").response()
    error = sys.exc_info()[1]
    if error is not None and _is_away(error):
        return _away_page()
    return server_error(request)


def _away_page() -> HttpResponse:
    """The admin while the database is away: a page that reads no table, not even the session's."""
    page = loader.get_template("503.html").render()
    return HttpResponse(page, status=503, headers={"Retry-After": "5"})


def as_json(document: object) -> str:
    """The bytes of an answer: amounts are strings already, dates and UUIDs become strings."""
    return json.dumps(document, cls=JSONEncoder, ensure_ascii=False, separators=(",", ":"))


def answered(
    body: str,
    *,
    status: int = 200,
    media_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """An answer of the API; no cache on the way may keep it, as it holds names and addresses."""
    return HttpResponse(
        body, media_type, status, headers={"Cache-Control": "no-store", **(headers or {})}
    )
