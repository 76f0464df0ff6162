"""What is wrong with a configuration, in one sentence: the key, the value and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import ValidationError

from pipelines.config import Config
from pipelines.config_types import Section

_ALLOWED = {
    "literal_error": "{expected}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than_equal": "a number of at most {le}",
    "greater_than": "a number above {gt}",
    "too_short": "a list of at least one",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "model_type": "a section with keys of its own",
    "string_pattern_mismatch": "a name of letters, digits, '.', '_' and '-'",
    "string_too_long": "a name of at most {max_length} characters",
}


def sentence(error: ValidationError) -> str:
    """The first fault as one sentence: the key, the value and what is allowed."""
    faults = error.errors()
    key, section = _key(faults[0]["loc"])
    kind = faults[0]["type"]
    if kind in ("extra_forbidden", "invalid_key"):
        wrong = str(faults[0]["loc"][-1])
        near = difflib.get_close_matches(wrong, section.model_fields, n=1)
        hint = f"did you mean {near[0]}" if near else "allowed: " + ", ".join(section.model_fields)
        return f"{key} is not a key of the configuration; {hint}."
    if kind == "missing":
        return f"{key} is missing from the configuration."
    # A union gives a fault a member: tell them as one.
    same = [fault for fault in faults if _key(fault["loc"])[0] == key]
    allowed = " or ".join(dict.fromkeys(_allowed(fault) for fault in same))
    given = repr(faults[0]["input"])
    if "storage_options" in faults[0]["loc"]:  # where secrets may stand
        given = "***"
    return f"{key} is {given}; {allowed} is allowed."


def _key(loc: tuple[int | str, ...]) -> tuple[str, type[Section]]:
    """The dotted key of a fault, without the member of a union, and the section it stands in."""
    section: type[Section] = Config
    key = ""
    for place, part in enumerate(loc):
        key += f".{part}" if key else str(part)
        field = section.model_fields.get(str(part))
        inner = field and next(iter(get_args(field.annotation)), field.annotation)
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            if part == "storage_options":
                return ".".join([key, *map(str, loc[place + 1 :])]), section
            return key + "".join(f"[{n}]" for n in loc[place + 1 :] if isinstance(n, int)), section
        if place + 1 < len(loc):
            section = inner
    return key, section


def _allowed(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    if known := _ALLOWED.get(fault["type"]):
        return known.format(**fault.get("ctx", {}))
    message = str(fault["msg"]).removeprefix("Input should be a").removeprefix(" valid")
    return f"a {message.strip()}"
