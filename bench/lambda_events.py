"""Events of API Gateway for the bench `lambda`, and what both sides do with them."""

import hashlib
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import orjson

import rounds

SECURITIES, DAYS, FIRST = 200, 500, date(2022, 1, 3)
ROWS = f"""SELECT format('S{{:04d}}', s) AS security_id, DATE '{FIRST}' + CAST(d AS INTEGER) AS date,
 100.0 + (s * 31 + d * 7) % 997 / 8 AS open, 100.0 + (s * 17 + d * 13) % 997 / 8 AS close, 1000 + (s * d) % 9973 AS volume
 FROM range({SECURITIES}) AS a(s), range({DAYS}) AS b(d) ORDER BY 1, 2"""
WARM = 50
Event = dict[str, Any]


def events(kind: str, seed: int, count: int, headers: dict[str, str]) -> list[Event]:
    """Requests for other rows each, in payload format 2.0: of a point, or of a page of 100."""
    drawn = random.Random(seed).sample(range(SECURITIES * (DAYS - 100)), count + WARM if count > 1 else count)
    return [_event(kind, f"S{n % SECURITIES:04}", FIRST + timedelta(n // SECURITIES), headers) for n in drawn]


def _event(kind: str, security: str, day: date, headers: dict[str, str]) -> Event:
    host = "id.execute-api.ca-central-1.amazonaws.com"
    what = f"date.gte={day}&limit=100" if kind == "page" else f"date={day}"
    path = "/v1/gold/prices"
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": f"security_id={security}&{what}",
        "headers": {"host": host, "x-forwarded-proto": "https", "accept": "*/*", **headers}, "isBase64Encoded": False,
        "requestContext": {
            "accountId": "123456789012", "apiId": "id", "domainName": host, "requestId": "r", "routeKey": "$default",
            "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "bench"},
            "stage": "$default", "timeEpoch": 0,
        },
    }  # fmt: skip


def measure(make: Callable[[], Callable[[Event, Any], Event]], asked: Sequence[Event], begun: float) -> None:
    """Answer the events and report mean CPU of those after WARM, and the digest of all rows."""
    handler = make()
    answers = [handler(one, None) for one in asked[:WARM]]
    before = rounds.begin()
    answers += [handler(one, None) for one in asked[WARM:]]
    warm = 1000 * (rounds.begin() - before) / max(1, len(asked) - WARM)
    digest = hashlib.sha256()
    for answer in answers:
        if answer["statusCode"] != 200:
            raise SystemExit(f"{answer['statusCode']}: {answer['body'][:300]}")
        digest.update(orjson.dumps(orjson.loads(answer["body"])["data"]))
    rounds.report(begun, warm_ms=warm, digest=digest.hexdigest())
