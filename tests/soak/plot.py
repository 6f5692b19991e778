"""Lines over time as one SVG page, with nothing but the standard library."""
from xml.sax.saxutils import escape

COLOURS = ["#1b6ca8", "#c4552d", "#3f8f4f", "#7a5aa6"]
WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 150, 60, 30, 60


def nice(top):
    """A round number at or above top."""
    step = 1.0
    while step * 10 < top:
        step *= 10
    for factor in (1, 2, 2.5, 5, 10):
        if step * factor >= top:
            return step * factor
    return top


def panel(title, x, lines, y0, unit):
    """One diagram; lines: (name, values or None where there is none)."""
    most = nice(max([v for _, values in lines for v in values if v is not None] or [1]) or 1)
    last = x[-1] or 1
    out = [f'<text x="{LEFT}" y="{y0 - 10}" font-weight="bold">{escape(title)}</text>']
    for k in range(5):
        y = y0 + HEIGHT - HEIGHT * k / 4
        out.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most * k / 4:g}</text>'
                   f'<text x="{LEFT + WIDTH * k / 4:.1f}" y="{y0 + HEIGHT + 16}" text-anchor="middle">'
                   f'{last * k / 4:.3g}{" " + unit if k == 4 else ""}</text>')
    for i, (name, values) in enumerate(lines):
        points = " ".join(f"{LEFT + WIDTH * a / last:.1f},{y0 + HEIGHT - HEIGHT * v / most:.1f}"
                          for a, v in zip(x, values) if v is not None)
        colour = COLOURS[i % len(COLOURS)]
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
                   f'<text x="{LEFT + 230 + 130 * i}" y="{y0 - 10}" fill="{colour}">{escape(name)}</text>')
    return "\n".join(out)


def page(panels, unit):
    height = TOP + len(panels) * (HEIGHT + GAP)
    body = "\n".join(panel(title, x, lines, TOP + i * (HEIGHT + GAP), unit)
                     for i, (title, x, lines) in enumerate(panels))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 50}" height="{height}" '
            f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n')
