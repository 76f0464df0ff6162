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
# Options that are the connection's, by the names that Lance and obstore share.
_CLIENT = {
    "connect_timeout",
    "default_content_type",
    "http2_keep_alive_interval",
    "http2_keep_alive_timeout",
    "pool_idle_timeout",
    "pool_max_idle_per_host",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "timeout",
    "user_agent",
}
_SWITCHES = {
    "allow_http",
    "allow_invalid_certificates",
    "http1_only",
    "http2_keep_alive_while_idle",
    "http2_only",
    "randomize_addresses",
}
_RETRIES, _RETRY_SECONDS = "client_max_retries", "client_retry_timeout"


def lance_options(uri: str, options: Options) -> dict[str, str] | None:
    """What Lance opens a dataset with; of a folder of this machine nothing."""
    if "://" not in uri:
        return None
    limits = {
        "timeout": f"{REQUEST_SECONDS}s",
        _RETRIES: str(MOST_RETRIES),
        _RETRY_SECONDS: str(RETRY_SECONDS),
    }
    return limits | {_known_as(name): value for name, value in options}


@lru_cache(maxsize=32)
def opened(bucket: str, options: Options) -> Any:  # noqa: ANN401
    """A bucket; raises UsageError for an option that there is not."""
    given = {"allow_http": os.environ.get("AWS_ALLOW_HTTP", "false")}
    given |= {_known_as(name): value for name, value in options}
    client: dict[str, Any] = {"timeout": timedelta(seconds=REQUEST_SECONDS)}
    client |= {name: given.pop(name) for name in _CLIENT & set(given)}
    for name in _SWITCHES & set(given):
        client[name] = given.pop(name).lower() in ("true", "1", "yes")
    retry = {
        "max_retries": _whole(bucket, _RETRIES, given.pop(_RETRIES, MOST_RETRIES)),
        "retry_timeout": timedelta(
            seconds=_whole(bucket, _RETRY_SECONDS, given.pop(_RETRY_SECONDS, RETRY_SECONDS))
        ),
    }
    given.pop("download_retry_count", None)  # Lance's own
    make: Any = obstore.store.from_url
    try:
        return make(bucket, config=given, client_options=client, retry_config=retry)
    except (BaseError, ValueError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(". ")
        raise UsageError(f"storage_options for {bucket}: {reason}.") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        # So obstore takes what is an option of the library below it, and none of its own.
        names = ", ".join(sorted(given))
        raise UsageError(f"storage_options for {bucket}: one of {names} cannot be set.") from None


def _known_as(name: str) -> str:
    """An option as Lance and obstore both know it."""
    plain = name.lower()
    if plain == "request_timeout":  # object_store's older name, which Lance leaves aside
        return "timeout"
    short = plain.removeprefix("aws_").removeprefix("azure_").removeprefix("google_")
    return short if short in _CLIENT | _SWITCHES else plain


def _whole(bucket: str, name: str, value: str | int) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(
            f"storage_options for {bucket}: {name} is {value!r}; a whole number is allowed."
        ) from None
