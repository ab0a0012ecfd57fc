"""Writes what a webhook is told, signed by the Standard Webhooks scheme.

See https://www.standardwebhooks.com: the signature is HMAC-SHA256 over
`id.timestamp.body`, in Base64.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from datetime import datetime

import orjson

SECRET_PREFIX = "whsec_"  # noqa: S105  not a secret itself
SECRET_BYTES = 32


def new_secret() -> str:
    """Returns a new secret, with which deliveries are signed."""
    random = secrets.token_bytes(SECRET_BYTES)
    return SECRET_PREFIX + base64.b64encode(random).decode()


def event_body(*, uid: str, type_: str, at: datetime, subject: str) -> bytes:
    """Returns an event as JSON. `subject` is the id of what it is about."""
    event = {
        "id": uid,
        "object": "event",
        "type": type_,
        "created_at": int(at.timestamp()),
        "data": {"id": subject},
    }
    return orjson.dumps(event)


def signed_headers(secret: str, uid: str, body: bytes) -> Mapping[str, str]:
    """Returns the headers of one try.

    Each try is signed with its own time, since receivers refuse what is old.
    """
    timestamp = str(int(time.time()))
    return {
        "content-type": "application/json",
        "webhook-id": uid,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{signature(secret, uid, timestamp, body)}",
    }


def signature(secret: str, uid: str, timestamp: str, body: bytes) -> str:
    """Returns the signature in Base64. `timestamp` is in whole seconds."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{uid}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
