"""Bars as SVG, without a library."""
from xml.sax.saxutils import escape

COLOURS = {"ort f32": "#4c78a8", "ort int8": "#9ecae9", "openvino": "#54a24b", "deepsparse": "#f58518"}


def bars(path, title, groups):
    """groups: (label, {series: value}) from top to bottom; a line marks 1."""
    bar, gap, left, width = 9, 8, 270, 560
    top = max([v for _, g in groups for v in g.values()] + [1.0])
    x = lambda v: left + v / top * width
    y, out = 64, []
    for label, values in groups:
        out.append(f'<text x="{left - 6}" y="{y + bar * len(values) / 2 + 4}" text-anchor="end">{escape(label)}</text>')
        for series, v in values.items():
            out.append(f'<rect x="{left}" y="{y}" width="{x(v) - left:.1f}" height="{bar - 1}" fill="{COLOURS[series]}"/>'
                       f'<text x="{x(v) + 3:.1f}" y="{y + bar - 1}" font-size="9">{v:.1f}</text>')
            y += bar
        y += gap
    key = "".join(f'<rect x="{left + i * 110}" y="34" width="10" height="10" fill="{c}"/>'
                  f'<text x="{left + 14 + i * 110}" y="43">x {s}</text>' for i, (s, c) in enumerate(COLOURS.items()))
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 60}" height="{y + 20}" '
                f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
                f'<text x="10" y="20">{escape(title)}</text>{key}{"".join(out)}'
                f'<line x1="{x(1):.1f}" y1="54" x2="{x(1):.1f}" y2="{y}" stroke="#888" stroke-dasharray="3 3"/></svg>\n')
