"""The dated log of benchmarks: Markdown made of a run's own figures, so that nobody copies any.

The log is one file, with an overview and a section for each run. The whole summary of a run lies
beside it as JSON, in a folder of the log's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipelines.bench.tables import Figures, Table, notes, settings_text, tables
from pipelines.report.formats import decimal, share
from pipelines.summary import write_json

OVERVIEW = (
    "date",
    "machine",
    "dtype",
    "chunks/s, mixed",
    "× defaults",
    "× best",
    "best settings",
    "of peak",
)
NOTHING_YET = "no figure is entered yet"
_SAY_NOTHING = {"cpu", "processor", "core", "r", "tm", "with", "gen", "ghz"}
_MOST_WORDS = 4


def keep(log: Path, summary: Figures) -> Path:
    """Append a run to the log and write its JSON beside it, whose path is returned.

    A second run of a day on the same machine gets a number.
    """
    folder, name = log.with_suffix(""), f"{summary['date']}-{machine_name(summary['machine'])}"
    taken = {path.stem for path in folder.glob("*.json")}
    number = next(n for n in range(1, len(taken) + 2) if _numbered(name, n) not in taken)
    kept = folder / f"{_numbered(name, number)}.json"
    write_json(kept, summary)
    written = log.read_text(encoding="utf-8") if log.is_file() else "# Benchmarks\n"
    link = f"{folder.name}/{kept.name}"
    log.write_text(with_run(written, summary, link), encoding="utf-8")
    return kept


def with_run(log: str, summary: Figures, link: str) -> str:
    """The text of a log with one more run; `link` names the file of all its figures."""
    header = _line(OVERVIEW)
    if header not in log:
        log += f"\n{header}\n{_rule(OVERVIEW)}\n"
    lines = [line for line in log.splitlines() if NOTHING_YET not in line]
    place = lines.index(header)
    while place < len(lines) and lines[place].startswith("|"):
        place += 1
    lines.insert(place, _line(_overview(summary)))
    return "\n".join(lines).rstrip() + "\n\n" + section(summary, link)


def section(summary: Figures, link: str) -> str:
    """One run: its machine, its tables, what was left out and where it lost."""
    machine = summary["machine"]
    libraries = ", ".join(
        f"{name} {found}" for name, found in machine["libraries"].items() if found
    )
    peaks = ", ".join(f"{rate:,.0f} in {name}" for name, rate in summary["peak_gflops"].items())
    about = Table(
        "",
        ("machine", ""),
        (
            ("processor", machine["processor"]),
            ("features", ", ".join(machine["features"]) or "none of note"),
            ("cores, threads", f"{machine['cores']}, {machine['threads']}"),
            ("GPU", machine["gpu"] or "none"),
            ("libraries", f"Python {machine['python']}, torch {machine['torch']}, {libraries}"),
            ("dtype", machine["dtype"]),
            ("matrix product, GFLOP/s", peaks),
            ("seconds in all", decimal(summary["seconds"]["total"], 0)),
            ("all figures, every turn", f"[{link}]({link})"),
        ),
    )
    parts = [f"## {summary['date']}, {machine_name(machine)}", _markdown(about, numbers=False)]
    parts += [f"{table.title}:\n\n{_markdown(table)}" for table in tables(summary)]
    parts += ["\n".join(f"- {note}" for note in notes(summary))]
    return "\n\n".join(part for part in parts if part) + "\n"


def machine_name(machine: Figures) -> str:
    """A short name for a machine: its GPU, or its processor and cores."""
    told = re.sub(r"\(\w+\)|@.*", " ", str(machine["gpu"] or machine["processor"]).lower())
    words = [word for word in re.findall(r"[a-z0-9]+", told) if word not in _SAY_NOTHING]
    name = "-".join(words[:_MOST_WORDS]) or "unknown"
    return name if machine["gpu"] else f"{name}-{machine['cores']}-cores"


def _overview(summary: Figures) -> tuple[str, ...]:
    mixed = summary["encode"]
    return (
        summary["date"],
        machine_name(summary["machine"]),
        mixed["dtype"],
        decimal(mixed["tandem"], 0),
        decimal(mixed["ratio"], 2),
        decimal(mixed["ratio_to_best"], 2),
        settings_text(mixed),
        share(mixed["share_of_peak"]),
    )


def _markdown(table: Table, numbers: bool = True) -> str:
    rule = _rule(table.headings) if numbers else "|---" * len(table.headings) + "|"
    lines = [_line(table.headings), rule, *map(_line, table.rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rule(cells: Sequence[str]) -> str:
    return "|---" + "|---:" * (len(cells) - 1) + "|"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"
