"""What growth tests measured, as a drawing and as JSON, in the folder that TANDEM_FIGURES names."""

import json
import os
from pathlib import Path

import numpy as np

from pipelines.report.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Scale, label, round_values

STYLE = """
svg { background: #fff; font: 11px system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
text { fill: #59626c; } .name { fill: #1b1f24; font-size: 13px; font-weight: 600; }
.grid { stroke: #d6dbe1; } .fit { stroke: #59626c; stroke-dasharray: 4 3; }
.main { fill: #0b5cad; }
"""


def line_through(sizes, values):
    """Slope and start of the straight line, and how far the values are off it at most, as a share.

    Least squares of relative errors, so that small sizes count as much as large ones.
    """
    sizes, values = np.array(sizes, float), np.array(values, float)
    slope, start = np.polyfit(sizes, values, 1, w=1 / values)
    return slope, start, float((np.abs(values - (start + slope * sizes)) / values).max())


def kept(name, title, along, up, sizes, values, **figures):
    """Keep them, if a folder is named."""
    folder = os.environ.get("TANDEM_FIGURES")
    if not folder:
        return
    slope, start, off = line_through(sizes, values)
    found = {"sizes": list(sizes), "values": list(values), "slope": slope, "start": start}
    found |= {"off_the_line": off} | figures
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    drawing = drawn(title, along, up, list(zip(sizes, values, strict=True)), slope, start)
    Path(folder, f"{name}.svg").write_text(drawing, encoding="utf-8")


def drawn(title, along, up, points, slope, start):
    x_values = round_values(0, max(size for size, _ in points), 6)
    y_values = round_values(0, max(value for _, value in points), 6)
    x, y = Scale(0, x_values[-1], LEFT, RIGHT), Scale(0, y_values[-1], BOTTOM, TOP)
    said = "; ".join(f"{label(size)} {along}: {value:.3g} {up}" for size, value in points)
    last = points[-1][0]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -28 {WIDTH} {BOTTOM + 68}" '
        f'width="{WIDTH}" height="{BOTTOM + 68}" role="img" aria-label="{title}. {said}.">',
        f'<style>{STYLE}</style><text class="name" x="8" y="-12">{title}</text>',
        f'<text x="8" y="6">{up}</text>',
        f'<text x="{RIGHT}" y="{BOTTOM + 32}" text-anchor="end">{along}</text>',
    ]
    for value in y_values:
        place = y.place(value)
        parts.append(f'<path class="grid" d="M{LEFT} {place}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 3.5}" text-anchor="end">{label(value)}')
        parts.append("</text>")
    for value in x_values:
        parts.append(f'<text x="{x.place(value)}" y="{BOTTOM + 16}" text-anchor="middle">')
        parts.append(f"{label(value)}</text>")
    ends = f"M{x.place(0)} {y.place(max(start, 0))}L{x.place(last)} {y.place(start + slope * last)}"
    parts.append(f'<path class="fit" d="{ends}"/>')
    for size, value in points:
        told = f"<title>{label(size)} {along}: {value:.3g} {up}</title>"
        parts.append(
            f'<circle class="main" cx="{x.place(size)}" cy="{y.place(value)}" r="4">{told}</circle>'
        )
    return "".join(parts) + "</svg>\n"
