"""The lake as pages for people: no script, one style sheet, the same figures as the API."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from assay.serve.pages import Problem
from assay.serve.reading import Place

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def routes(place: Place) -> list[Route]:
    return []


async def problem(place: Place, request: Request, error: Problem) -> Response:
    return Response(error.detail, error.status)
