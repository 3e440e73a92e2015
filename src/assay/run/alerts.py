"""Alerts: which policies of `assay.toml` fire by what `status` says, and telling webhooks when one begins, changes and is over."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

from assay import clock
from assay.crash import effect
from assay.errors import AlertFiring, AssayError, SettingsError, WebhookFailed
from assay.ports import Fact, Ledger, Secrets
from assay.settings import Policy
from assay.spoken import printable, some
from assay.targets import Target

VERSION = 1
"""Of what a webhook is told."""
PATIENCE = 10.0
"""Seconds a webhook has for its answer."""
CLAIM = timedelta(seconds=60)
"""So long an alert is one process's to tell; longer than it takes."""
UNENDED = timedelta(days=1)
"""A step that began and did not end by then is taken for killed."""
LINES = 20
"""Sentences an alert has at most."""


@dataclass(frozen=True)
class Alert:
    """What fires: a word of a policy's `when`, for one dataset or ('') the lake.

    Attributes:
        told: the sentences of `status`.
        cause: the same as long as nothing new is to be told.
        since: since when it is so, where the lake knows; else since when it was seen first, where that is kept.
    """

    policy: str
    when: str
    dataset: str
    told: str
    cause: str
    since: datetime | None = None

    @property
    def id(self) -> str:
        """What it is in the ledger."""
        return f"{self.policy}/{self.when}/{self.dataset}"

    @property
    def data(self) -> dict[str, Any]:
        """As JSON has it."""
        since = self.since.isoformat() if self.since else None
        return {
            "alert": self.policy,
            "when": self.when,
            "dataset": self.dataset or None,
            "since": since,
            "told": self.told,
        }


@dataclass(frozen=True)
class Alerts:
    """What fires, what webhooks were told of (as they were told it), and which of them could not be told."""

    firing: Sequence[Alert]
    sent: Sequence[Mapping[str, Any]] = ()
    errors: Sequence[AssayError] = ()

    @property
    def error(self) -> AlertFiring | None:
        """What fires, as an error."""
        verb = "fires" if len(self.firing) == 1 else "fire"
        return AlertFiring(f"{some(len(self.firing), 'alert')} {verb}") if self.firing else None


# ------------------------------------------------------------------ what fires

_Found = tuple[list[str], list[str], str | None]  # sentences, what the cause is, since when


def firing(policies: Sequence[Policy], status: Mapping[str, Any], at: datetime) -> list[Alert]:
    """The alerts that fire by what `Lake.status` said at a moment: by policy, word and dataset."""
    out = []
    for policy in policies:
        for when in policy.when:
            for dataset, found in _found(policy, when, status, at):
                told, cause, since = found
                more = [f"… and {len(told) - LINES} more: `assay status`"] if len(told) > LINES else []
                out.append(
                    Alert(
                        policy.name, when, dataset,
                        "\n".join(printable(line) for one in told[:LINES] + more for line in one.split("\n")),
                        hashlib.sha256("\n".join(sorted(set(cause))).encode()).hexdigest()[:16],
                        datetime.fromisoformat(since) if since else None,
                    )
                )  # fmt: skip
    return out


def _found(policy: Policy, when: str, status: Mapping[str, Any], at: datetime) -> Iterator[tuple[str, _Found]]:
    if when in OF_DATASETS:
        for dataset, one in status["datasets"].items():
            if (not policy.datasets or dataset in policy.datasets) and (found := OF_DATASETS[when](one, at))[0]:
                yield dataset, found
    if not policy.datasets and when == "failing" and (found := _failing(status, at))[0]:
        yield "", found
    if not policy.datasets and when == "ending" and status["ending"]:
        yield "", (status["ending"], status["ending"], None)


def _late(one: Mapping[str, Any], _: datetime) -> _Found:
    since = one["late_since"]
    return one["late"], [since or ""], since


def _held(one: Mapping[str, Any], _: datetime) -> _Found:
    return _batches(one["held_batches"])


def _pending(one: Mapping[str, Any], _: datetime) -> _Found:
    return _batches(one["pending_batches"])


def _batches(found: Mapping[str, Mapping[str, Any]]) -> _Found:
    since = [one["at"] for one in found.values() if one["at"]]
    return [one["told"] for one in found.values()], list(found), min(since, default=None)


def _failing(one: Mapping[str, Any], at: datetime) -> _Found:
    """Steps that failed, are tried again since, or began so long ago that they cannot be on their way.

    Another kind of error is another cause.
    """
    found = [
        step
        for step in one["failing"]
        if step["state"] == "failed" or step["error"] or at - datetime.fromisoformat(step["at"]) > UNENDED
    ]
    cause = [f"{step['step'].split(' ')[0]} {step['error'].partition(':')[0]}" for step in found]
    return [step["told"] for step in found], cause, min((step["at"] for step in found), default=None)


def _shrank(one: Mapping[str, Any], _: datetime) -> _Found:
    found = one["shrank"]
    return ([found["told"]], [found["batch"]], found["at"]) if found else ([], [], None)


def _holes(one: Mapping[str, Any], _: datetime) -> _Found:
    found = one["holes"]
    return ([found["told"]], [json.dumps(found["shards"]), str(found["sessions"])], None) if found else ([], [], None)


def _drift(one: Mapping[str, Any], _: datetime) -> _Found:
    found = one["drift"]
    since = [drift["at"] for drift in found if drift["at"]]
    cause = [f"{drift['what']} {drift['field']} {drift['since']}" for drift in found]
    return [drift["told"] for drift in found], cause, min(since, default=None)


def _clock(one: Mapping[str, Any], _: datetime) -> _Found:
    return ([one["clock"]], [one["clock"]], None) if one["clock"] else ([], [], None)


OF_DATASETS: Mapping[str, Callable[[Mapping[str, Any], datetime], _Found]] = {
    "late": _late, "held": _held, "pending": _pending, "failing": _failing, "shrank": _shrank, "holes": _holes,
    "drift": _drift, "clock": _clock,
}  # fmt: skip


# ------------------------------------------------------------------ who is told


def run(target: Target, status: Mapping[str, Any], at: datetime, *, send: bool) -> Alerts:
    """See `Lake.alerts`; `status` is what `Lake.status` said at that moment."""
    settings, ledger = target.settings, target.ledger
    policies = {one.name: one for one in settings.alerts}
    found = [_seen(ledger, one) for one in firing(settings.alerts, status, at)]
    if not send:
        return Alerts(found)
    whose = {"lake": settings.name, "env": settings.env}
    sent: list[Mapping[str, Any]] = []
    errors: list[AssayError] = []
    silent: set[str] = set()  # webhooks that did not answer: the rest of theirs is left to the next call
    for alert, fires in _wanted(ledger, found, policies):
        policy = policies.get(alert.policy)
        if policy is None or not policy.webhook:
            _forget(ledger, alert)
            continue
        if policy.webhook in silent:
            continue
        claimed = _claim(ledger, alert, at, fires=fires)
        if claimed is None:
            continue
        body = _body(whose, alert, claimed)
        try:
            with effect("alert.tell"):
                tell(target.secrets, policy.webhook, body)
        except (SettingsError, WebhookFailed) as error:
            kind = SettingsError if isinstance(error, SettingsError) else WebhookFailed
            errors.append(
                kind(f"alert {alert.policy}: {error}; it is kept, and told by the next `assay alerts --send`")
            )
            silent |= {policy.webhook} if isinstance(error, _Silent | SettingsError) else set()
            _record(ledger, claimed, {**claimed.body, "by": "", "error": str(error)})
        else:
            sent.append(body)
            cause = alert.cause if fires else ""
            _record(ledger, claimed, {**claimed.body, "by": "", "error": "", "cause": cause, "known": cause})
    return Alerts(found, sent, errors)


def _seen(ledger: Ledger, alert: Alert) -> Alert:
    """An alert, since it was told first: a step that fails again has failed since then."""
    fact = ledger.newest("alert", "", alert.id)
    return replace(alert, since=_since(alert, fact.body)) if fact else alert


def _since(alert: Alert, kept: Mapping[str, Any]) -> datetime | None:
    """Since when an alert is so: as it is kept if nothing is new, or nothing else says it."""
    known = datetime.fromisoformat(kept["since"]) if kept["cause"] else None
    return known if kept["cause"] == alert.cause else alert.since or known


def _wanted(ledger: Ledger, found: Sequence[Alert], policies: Mapping[str, Policy]) -> Iterator[tuple[Alert, bool]]:
    """What fires and has a webhook, then what is kept as firing and does not any more."""
    fire = {one.id for one in found}
    yield from ((one, True) for one in found if policies[one.policy].webhook)
    for fact in list(ledger.since("alert", "")):
        if fact.id not in fire and (fact.body["cause"] or fact.body["known"]):
            policy, when, dataset = fact.id.split("/")
            body = fact.body
            yield Alert(policy, when, dataset, body["told"], "", datetime.fromisoformat(body["since"])), False


def _claim(ledger: Ledger, alert: Alert, at: datetime, *, fires: bool) -> Fact | None:
    """The fact by which an alert is this process's to tell; None where it is told already, or somebody else tells it.

    Of two that put the same version the ledger keeps the first: who finds another's there was second.
    """
    before = ledger.newest("alert", "", alert.id)
    was = before.body if before else {"cause": "", "known": "", "by": "", "since": ""}
    if was["by"] and datetime.fromisoformat(was["until"]) > clock.now():
        return None
    if was["known"] == alert.cause and (fires or not was["cause"]):
        return None
    since = _since(alert, was) or at
    body = {
        "since": since.isoformat(), "told": alert.told, "cause": alert.cause if fires else was["cause"],
        "known": was["known"], "by": token_hex(8), "until": (clock.now() + CLAIM).isoformat(), "error": "",
    }  # fmt: skip
    mine = Fact("alert", "", alert.id, at, body, (before.version if before else 0) + 1)
    ledger.record([mine])
    put = ledger.newest("alert", "", alert.id)
    return put if put and put.body["by"] == body["by"] else None


def _record(ledger: Ledger, claimed: Fact, body: Mapping[str, Any]) -> None:
    ledger.record([replace(claimed, at=clock.now(), body=body, version=claimed.version + 1)])


def _forget(ledger: Ledger, alert: Alert) -> None:
    """Nobody is to be told that this is over: its policy is gone, or has no webhook any more."""
    before = ledger.newest("alert", "", alert.id)
    if before and (before.body["cause"] or before.body["known"]):
        _record(ledger, before, {**before.body, "cause": "", "known": "", "by": ""})


def _body(whose: Mapping[str, str], alert: Alert, claimed: Fact) -> dict[str, Any]:
    """What a webhook is told."""
    named = [*whose.values(), alert.policy, alert.when, alert.dataset]
    return {
        "version": VERSION, **whose, **alert.data, "state": "firing" if alert.cause else "resolved", "since": claimed.body["since"],
        "dedup_key": hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32],
    }  # fmt: skip


class _Silent(WebhookFailed):
    """It does not answer at all."""


def tell(secrets: Secrets, webhook: str, body: Mapping[str, Any]) -> None:
    """POST JSON to the address that a secret holds; WebhookFailed unless the answer is 2xx within `PATIENCE` seconds.

    No text has anything of the address, which is a secret: it is named by the secret's name.
    """
    from assay.land.running import waited

    waited(_post(webhook, _address(secrets, webhook), json.dumps(body).encode()))


def _address(secrets: Secrets, webhook: str) -> str:
    from yarl import URL

    try:
        text = secrets.get(webhook).strip()
        url = URL(text)
    except ValueError:  # a text that is none, too
        url = URL()
    if url.scheme not in ("https", "http") or not url.host:
        raise SettingsError(
            f"the secret {webhook} holds no address of a webhook, which begins with https:// or http://"
        )
    return text


async def _post(webhook: str, address: str, data: bytes) -> None:
    import aiohttp

    headers = {"User-Agent": "assay", "Content-Type": "application/json"}
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=PATIENCE), cookie_jar=aiohttp.DummyCookieJar(), headers=headers
            ) as session,
            session.post(address, data=data, allow_redirects=False) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        # The library's own texts quote addresses.
        number = error.errno if isinstance(error, OSError) else None
        why = os.strerror(number) if number and number > 0 else type(error).__name__
        raise _Silent(f"webhook {webhook} gave no answer within {PATIENCE:g} s: {why}") from None
    if not 200 <= status < 300:
        redirects = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        raise WebhookFailed(f"webhook {webhook} answers {status}{redirects}")


__all__ = ["Alert", "Alerts", "firing", "run", "tell"]
