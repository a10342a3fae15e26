"""For who receives webhooks: whether one comes from Switchyard, and what it tells."""

from __future__ import annotations

import json
from typing import Mapping, Optional, Sequence, Union

from .shapes import WebhookEvent
from .signature import keys_of, verify


class WebhookVerificationError(Exception):
    """What came is not from who has the secret, or is too old. Answer it 401 and do nothing."""


def verify_webhook(secret: Union[str, Sequence[str]], headers: Mapping[str, str], body: Union[bytes, str], now: Optional[float] = None) -> WebhookEvent:
    """Checks a webhook's signature and time (five minutes), as Standard Webhooks has it, and reads it.

    ``secret`` is ``whsec_…``; several while one takes the place of another. ``body`` is as it came, before anything has read it as JSON,
    and ``now`` the time (seconds since 1970), if it is not to be this machine's.
    The same webhook may come more than once, under the same ``webhook-id``. Raises WebhookVerificationError; ValueError when a secret is none.
    """
    data = body.encode() if isinstance(body, str) else bytes(body)
    fault = verify(keys_of(secret), {str(name).lower(): value for name, value in headers.items()}, data, now)
    if fault is not None:
        raise WebhookVerificationError(fault)
    event: WebhookEvent = json.loads(data)
    return event
