"""A line chart with two logarithmic axes, as SVG."""

import math

COLOURS = ["#1b6ca8", "#c8553d", "#588157", "#8e6c8a", "#bc8a1f"]


def ticks(lo, hi):
    out, d = [], 10 ** math.floor(math.log10(lo))
    while d <= hi:
        out += [m * d for m in (1, 2, 5) if lo <= m * d <= hi]
        d *= 10
    return out


def number(v):
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if v >= size:
            return f"{v / size:g}{suffix}"
    return f"{v:g}"


def chart(title, xlabel, ylabel, series, xticks=None):
    """series: {name: [(x, y), ...]}; a name that ends in " (limit)" is dashed."""
    w, h, left, top, right, bottom = 680, 400, 70, 40, 20, 50
    xs = [x for s in series.values() for x, _ in s]
    ys = [y for s in series.values() for _, y in s]
    x0, x1, y0, y1 = min(xs), max(xs), min(ys) / 1.3, max(ys) * 1.3
    fx = lambda x: left + (w - left - right) * (math.log(x / x0) / math.log(x1 / x0) if x1 > x0 else 0.5)
    fy = lambda y: h - bottom - (h - top - bottom) * math.log(y / y0) / math.log(y1 / y0)
    o = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" font-family="sans-serif" font-size="12">', f'<rect width="{w}" height="{h}" fill="white"/>',
         f'<text x="{w / 2}" y="20" text-anchor="middle" font-size="14">{title}</text>', f'<text x="{(w + left) / 2}" y="{h - 10}" text-anchor="middle">{xlabel}</text>',
         f'<text transform="translate(16 {(h - bottom + top) / 2}) rotate(-90)" text-anchor="middle">{ylabel}</text>']
    for x in xticks or ticks(x0, x1):
        o.append(f'<path d="M{fx(x):.1f} {top}V{h - bottom}" stroke="#ddd"/><text x="{fx(x):.1f}" y="{h - bottom + 16}" text-anchor="middle">{number(x)}</text>')
    for y in ticks(y0, y1):
        o.append(f'<path d="M{left} {fy(y):.1f}H{w - right}" stroke="#ddd"/><text x="{left - 6}" y="{fy(y) + 4:.1f}" text-anchor="end">{number(y)}</text>')
    for i, (name, points) in enumerate(series.items()):
        colour, limit = COLOURS[i % len(COLOURS)], name.endswith(" (limit)")
        path = "M" + "L".join(f"{fx(x):.1f} {fy(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="6 4"' if limit else ""
        o.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if not limit:
            o += [f'<circle cx="{fx(x):.1f}" cy="{fy(y):.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        o.append(f'<text x="{left + 12}" y="{top + 18 + 16 * i}" fill="{colour}">{name.removesuffix(" (limit)")}</text>')
    return "\n".join(o + ["</svg>"]) + "\n"
