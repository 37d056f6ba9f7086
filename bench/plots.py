# SPDX-License-Identifier: Apache-2.0
"""Bar charts of the results, as SVG without any library."""

import html

PLOTS = {"wire_bytes": ("Bytes on the wire, MB", 1e6), "total_ms": ("Total time, s", 1e3), "blackout_ms": ("Blackout, ms", 1),
         "cpu_s": ("Processor time, s", 1)}
COLOURS = {"ours": "#0b6e4f", "best": "#b5651d", "plain": "#8a8a8a"}
LEFT, WIDTH, BAR, GAP, TOP = 230, 460, 12, 10, 44


def bars(results, metric):
    """[(row, [(who, value)])]: ours, QEMU's best and plain TCP."""
    found = {}
    for r in results:
        if r["metric"] != metric or r.get("against") not in ("best", "plain"):
            continue
        values = found.setdefault(r["row"], {})
        if r["ours"] is not None:
            values["ours"] = r["ours"]
        if r["native"] is not None:
            values[r["against"]] = r["native"]
    return [(row, [(who, values[who]) for who in COLOURS if who in values]) for row, values in sorted(found.items())]


def svg(title, groups, unit):
    height = TOP + sum(len(values) * BAR + GAP for _, values in groups) + 10
    most = max((value for _, values in groups for _, value in values), default=1) or 1
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 80}" height="{height}" '
             f'font-family="sans-serif" font-size="11">',
             f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18" font-size="14">{html.escape(title)}</text>']
    for i, (who, colour) in enumerate(COLOURS.items()):
        label = {"ours": "OpenLPM", "best": "QEMU's best", "plain": "QEMU's plain TCP"}[who]
        lines.append(f'<rect x="{LEFT + i * 130}" y="24" width="10" height="10" fill="{colour}"/>'
                     f'<text x="{LEFT + 14 + i * 130}" y="33">{label}</text>')
    y = TOP
    for row, values in groups:
        lines.append(f'<text x="{LEFT - 8}" y="{y + len(values) * BAR / 2 + 4}" text-anchor="end">{html.escape(row)}</text>')
        for who, value in values:
            length = max(1.0, WIDTH * value / most)
            shown = value / unit
            lines.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{COLOURS[who]}"/>'
                         f'<text x="{LEFT + length + 4:.1f}" y="{y + BAR - 3}">{shown:.1f}</text>')
            y += BAR
        y += GAP
    return "\n".join(lines) + "\n</svg>\n"


def write(results, out):
    for metric, (title, unit) in PLOTS.items():
        groups = bars(results, metric)
        if groups:
            (out / f"{metric}.svg").write_text(svg(title, groups, unit))
