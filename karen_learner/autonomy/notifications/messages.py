"""Messages: several notifications in the format of a target. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from typing import Any

from karen_learner.records.notifications import Notification
from karen_learner.settings import EmailTarget, WebhookTarget

SCHEMA = "karen_learner.notifications.v1"
MAX_FACT_CHARS = 200
DISCORD_CHARS = 2_000
SLACK_CHARS = 30_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\*_`~|>#\[\]()<@:-])")


def body_of(target: WebhookTarget, message_id: str, group: Sequence[Notification]) -> dict[str, Any]:
    """The JSON document of a message."""
    if target.kind == "slack":
        return {"text": _cut("\n".join(map(_slack, lines_of(group))), SLACK_CHARS)}
    if target.kind == "discord":
        content = _cut("\n".join(_MARKDOWN.sub(r"\\\1", line) for line in lines_of(group)), DISCORD_CHARS)
        return {"content": content, "allowed_mentions": {"parse": []}}
    return {"schema": SCHEMA, "message_id": message_id, "notifications": [one.to_dict() for one in group]}


def signed_headers(secret: str, message_id: str, body: bytes, now: datetime) -> Mapping[str, str]:
    """The headers of a signed message, by https://www.standardwebhooks.com (HMAC-SHA256).

    A secret `whsec_...` is base64; other secrets are text.
    """
    key = _key(secret)
    moment = str(int(now.timestamp()))
    signature = hmac.new(key, f"{message_id}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": moment,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def email_of(target: EmailTarget, message_id: str, group: Sequence[Notification]) -> EmailMessage:
    """The e-mail of a message."""
    mail = EmailMessage()
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    worst = min(group, key=lambda one: (one.kind == "recovery", one.severity != "critical"))
    mail["Subject"] = _cut(f"[karen_learner] {_headline(worst)}{more}", 300)
    mail["From"] = target.sender
    mail["To"] = ", ".join(target.recipients)
    mail["Message-ID"] = f"<{message_id}@karen-learner.invalid>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic replies
    mail.set_content("\n".join(lines_of(group)))
    return mail


def lines_of(group: Sequence[Notification]) -> list[str]:
    """A message as plain lines without control characters."""
    found = []
    for one in group:
        found.append(_headline(one))
        found += [f"  {_clean(name)}: {_clean(value)}" for name, value in one.facts.items()]
    return found


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as ASCII."""
    return json.dumps(document, allow_nan=False).encode("ascii")


def _headline(one: Notification) -> str:
    level = one.severity.upper() if one.kind == "problem" else one.kind.upper()
    tenant = "" if one.tenant_id is None else f" (tenant {_clean(one.tenant_id)})"
    return f"{level}: {_clean(one.title)}{tenant}"


def _clean(value: object) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return _cut(_CONTROL.sub(" ", shown), MAX_FACT_CHARS + 100)


def _slack(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            pass
    return secret.encode()
