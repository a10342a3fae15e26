"""Standard Webhooks (https://www.standardwebhooks.com): whether a request comes from who has the secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from typing import List, Mapping, Optional, Sequence, Union

#: How far a request's time may be from ours, in seconds.
TOLERANCE_SECONDS = 300
PREFIX = "whsec_"
#: Of a key; Standard Webhooks says so.
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64


def keys_of(secret: Union[str, Sequence[str]]) -> List[bytes]:
    """The keys in one secret or several: each ``whsec_`` and base64 of 24 to 64 bytes. Raises ValueError, without showing the secret."""
    texts = secret.replace(",", " ").split() if isinstance(secret, str) else list(secret)
    keys = []
    for text in texts:
        try:
            key = base64.b64decode(text[len(PREFIX) :], validate=True) if text.startswith(PREFIX) else b""
        except (binascii.Error, ValueError):
            key = b""
        if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"the secret must be whsec_ and base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; several apart by spaces")
        keys.append(key)
    if not keys:  # or everybody might come in
        raise ValueError("the secret (AGENT_SECRET) is empty; leave it out where requests need no signature")
    return keys


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` of a body; ``timestamp`` in seconds."""
    return _signature(keys_of(secret)[0], message_id, str(timestamp), body)


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: Optional[float] = None, tolerance: float = TOLERANCE_SECONDS) -> Optional[str]:
    """What is wrong with the signature of a request, or None. The names in ``headers`` are lower case; ``body`` is as it came."""
    message_id, timestamp, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not message_id or not timestamp or not given:
        return "the request is not signed: it lacks webhook-id, webhook-timestamp or webhook-signature"
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return "webhook-timestamp is not in seconds"
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        return f"webhook-timestamp is more than {f'{tolerance:g} s' if tolerance < 120 else f'{tolerance / 60:.0f} minutes'} off"
    signatures = [one.encode("utf-8", "surrogateescape") for one in given.split(" ") if one.startswith("v1,")]
    right = False
    for key in keys:
        expected = _signature(key, message_id, timestamp, body).encode()
        for one in signatures:
            # All are compared, and each in constant time.
            right |= hmac.compare_digest(expected, one)
    return None if right else "webhook-signature is not that of this body under a secret of this agent"
