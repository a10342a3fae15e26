"""An agent's settings: its options, and the environment where an option is not given."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union
from urllib.parse import urlsplit

from .signature import TOLERANCE_SECONDS, keys_of
from .wire import Target, is_loopback, parse_url

DEFAULT_URL = "http://127.0.0.1:8080"
TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: Of agent ids and capabilities.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Settings:
    name: str
    type: str
    target: Target
    host: Optional[str]
    port: int
    bind: Sequence[str]
    agent_id: Optional[str]
    max_concurrency: int
    ttl_seconds: float
    metadata: Optional[Dict[str, Any]]
    version: Optional[str]
    keys: List[bytes]
    verifies: bool
    tolerance_seconds: float
    drain_seconds: float
    later_after_seconds: Optional[float]
    register: bool
    logger: logging.Logger


def resolve(options: Mapping[str, Any], environ: Optional[Mapping[str, str]] = None) -> Settings:
    """Raises ValueError, in words for who starts the agent."""
    env = os.environ if environ is None else environ

    def setting(option: str, variable: str) -> Any:
        given = options.get(option)
        return given if given is not None else env.get(variable) or None

    kind = options.get("type") or "default"
    name = setting("name", "AGENT_NAME") or f"{kind}-agent"
    agent_id = setting("agent_id", "AGENT_ID")
    target = client_target(options.get("url"), options.get("api_key"), env)
    host = setting("host", "AGENT_HOST")
    secret: Union[str, Sequence[str], None] = setting("secret", "AGENT_SECRET")
    verify = setting("verify", "AGENT_VERIFY")
    if verify not in (None, True, False, "true", "false"):
        raise ValueError(f"verify (AGENT_VERIFY) must be true or false; it is {verify!r}")
    verifies = verify in (None, True, "true")
    if not verifies and secret is not None:
        raise ValueError("verify (AGENT_VERIFY) is false, and there is a secret (AGENT_SECRET): leave one of them out")
    if not TYPE.fullmatch(kind):
        raise ValueError(f"type must be 1 to 64 of A-Z a-z 0-9 _ -, beginning with a letter or digit; it is {kind!r}")
    if agent_id is not None and not WORD.fullmatch(agent_id):
        raise ValueError(f"the agent's id (AGENT_ID) must be 1 to 64 of A-Z a-z 0-9 _ - ., beginning with a letter or digit; it is {agent_id!r}")
    if not 1 <= len(name) <= 256 or not name.isprintable():
        raise ValueError("the agent's name (AGENT_NAME) must be 1 to 256 characters that can be printed")
    return Settings(
        name=name,
        type=kind,
        target=target,
        host=host,
        port=_port(setting("port", "AGENT_PORT")),
        bind=_bind(setting("bind", "AGENT_BIND"), host, target),
        agent_id=agent_id,
        max_concurrency=int(_number(options, "max_concurrency", 1, 1000)),
        ttl_seconds=_number(options, "ttl_seconds", 5, 3600),
        metadata=_metadata(options.get("metadata")),
        version=options.get("version"),
        keys=[] if secret is None else keys_of(secret),
        verifies=verifies,
        tolerance_seconds=_number({"tolerance_seconds": TOLERANCE_SECONDS, **options}, "tolerance_seconds", 1, 86_400),
        drain_seconds=_number(options, "drain_seconds", 0, 86_400),
        later_after_seconds=None if options.get("later_after_seconds") is None else _number(options, "later_after_seconds", 0, 86_400),
        register=bool(options["register"]),
        logger=options.get("logger") or logging.getLogger(f"switchyard.{name}"),
    )


def client_target(url: Optional[str], api_key: Optional[str], environ: Optional[Mapping[str, str]] = None) -> Target:
    """Where Switchyard is, and the key for it. Raises ValueError."""
    env = os.environ if environ is None else environ
    return parse_url(url or env.get("SWITCHYARD_URL") or DEFAULT_URL, api_key if api_key is not None else env.get("SWITCHYARD_API_KEY") or None)


def _bind(bind: Optional[str], host: Optional[str], target: Target) -> Sequence[str]:
    """What to listen at: an empty string is every interface."""
    if bind:
        return [bind]
    # Whoever names a host that others reach wants to be reached there, wherever Switchyard is.
    return ["127.0.0.1", "::1"] if is_loopback(_bare(host) if host else target.host) else [""]


def _bare(host: str) -> str:
    """Without a port, should there be one."""
    if host.count(":") > 1 and not host.startswith("["):
        return host
    return urlsplit(f"//{host}").hostname or host


def _port(value: Union[str, int, None]) -> int:
    try:
        port = int(value or 0)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError(f"the port (AGENT_PORT) must be a number from 0 to 65535; it is {value!r}")
    return port


def _metadata(value: Any) -> Optional[Dict[str, Any]]:
    try:
        if value is None or (isinstance(value, dict) and json.dumps(value, allow_nan=False)):
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    raise ValueError("metadata must be a dict that can be said in JSON")


def _number(options: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = options[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}; it is {value!r}")
    return value
