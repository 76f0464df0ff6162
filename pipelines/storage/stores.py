"""Buckets, opened by the options that Lance takes: so one set of them opens all."""

from __future__ import annotations

import os
from datetime import timedelta
from functools import lru_cache
from typing import Any

import obstore
from obstore.exceptions import BaseError

from pipelines.errors import UsageError

Options = tuple[tuple[str, str], ...]

# What a URL may begin with: Amazon S3 and what speaks as it does, Google Cloud Storage, Azure.
STORES = ("s3", "gs", "az")

# A connection that says nothing, and a store that says to come again, are given up after so long.
REQUEST_SECONDS = 30
RETRY_SECONDS = 90
MOST_RETRIES = 8
# Options of Lance's that are the connection's, as obstore calls them.
_CLIENT = {
    "allow_http": "allow_http",
    "allow_invalid_certificates": "allow_invalid_certificates",
    "connect_timeout": "connect_timeout",
    "request_timeout": "timeout",
    "timeout": "timeout",
    "proxy_url": "proxy_url",
    "proxy_ca_certificate": "proxy_ca_certificate",
    "proxy_excludes": "proxy_excludes",
    "user_agent": "user_agent",
}
_SWITCHES = {"allow_http", "allow_invalid_certificates"}
_RETRIES, _RETRY_SECONDS = "client_max_retries", "client_retry_timeout"


def lance_options(uri: str, options: Options) -> dict[str, str] | None:
    """What Lance opens a dataset with; of a folder of this machine nothing."""
    if "://" not in uri:
        return None
    limits = {
        "request_timeout": f"{REQUEST_SECONDS}s",
        _RETRIES: str(MOST_RETRIES),
        _RETRY_SECONDS: str(RETRY_SECONDS),
    }
    return limits | dict(options)


@lru_cache(maxsize=32)
def opened(bucket: str, options: Options) -> Any:  # noqa: ANN401
    """A bucket; raises UsageError for an option that there is not."""
    given = {name.lower(): value for name, value in options}
    client: dict[str, Any] = {"timeout": timedelta(seconds=REQUEST_SECONDS)}
    given.setdefault("allow_http", os.environ.get("AWS_ALLOW_HTTP", "false"))
    for name, own in _CLIENT.items():
        if name in given:
            value = given.pop(name)
            client[own] = value.lower() in ("true", "1", "yes") if own in _SWITCHES else value
    retry = {
        "max_retries": int(given.pop(_RETRIES, MOST_RETRIES)),
        "retry_timeout": timedelta(seconds=int(given.pop(_RETRY_SECONDS, RETRY_SECONDS))),
    }
    given.pop("download_retry_count", None)  # Lance's own
    make: Any = obstore.store.from_url
    try:
        return make(bucket, config=given, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(". ")
        raise UsageError(f"storage_options for {bucket}: {reason}.") from None
