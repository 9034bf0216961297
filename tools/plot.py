"""Draws line plots as SVG: several panels a file, readable on a light and on a dark page.

    from plot import Line, Mark, Panel, draw        (with this folder in sys.path)

    draw("run.svg", "A run of the demo", [
        Panel("Lag", [Line("analytics", [(0, 12), (1, 40), (2, None), (3, 7)])], unit="messages"),
        Panel("Delay", lines, unit="ms", marks=[Mark(10.5, "killed")]),
        Panel("Commit to receipt", lines, unit="ms", x="number", x_label="messages/s", log="x"),
    ], columns=2, note="2 cores, PostgreSQL 15")

draw(path, title, panels, columns=2, note="") writes the file; svg(title, panels, columns, note)
returns it as text. Both only lay out and format: what is drawn is what they are given.

Line   label    what the legend calls it. The same label has the same colour in all panels
                of a file, as far as colours go.
       points   (x, y) in the order of x. y None, NaN or infinite is a gap in the line; a point
                between two gaps is a dot. Of more points than pixels, the first, lowest, highest
                and last of each pixel are drawn: no peak gets lost.
Mark   x, text  a vertical line across the panel: something happened
Panel  title
       lines    none, or none with a point: the panel says "no data"
       unit     of y: "ms" and "s" are shown in the unit that fits (ms, s, min, h, d), "bytes" in
                KiB and so on; any other word stands beside the title
       x        "seconds" since the start (the default), "clock" (Unix time, shown as UTC), "number"
       x_label  what x is, below the axis
       log      "", "x", "y" or "xy": these axes are logarithmic; what is not above 0 is a gap
       marks    a list of Mark
       span     (first, last) x of the axis; left out: that of the points
       stacked  True: each line is a band on top of those before it; all of them have the same x,
                and no y is below 0. A gap is nothing there. Such an axis of y is not logarithmic.
       steps    True: what a point says holds until the next one
y begins at 0 unless it goes below.
"""

import math
import unicodedata
from datetime import datetime, timezone
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 420, 150            # of the area within a panel's axes
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 24
LABELLED, LEGEND_ROW, LEGEND_END = 16, 17, 14
MARGIN, HEAD, FOOT = 12, 30, 20     # of the file
CHARACTER = 6.1                     # pixels, of the small text; on average, so legends leave room
HUGE, TINY = 1e300, 1e-290          # what lies beyond is drawn as if it were this, or 0: sums stay finite

LIGHT = ["#2a6fbb", "#d2601a", "#178a68", "#8a55c4", "#c23f7f", "#947000", "#13899c", "#6b7280"]
DARK = ["#6cabf2", "#f39c5e", "#4fc6a2", "#b698ee", "#ef8abb", "#dcb843", "#5dc6d8", "#a7adb8"]
DASHES = ["", "6 3", "2 3"]         # when the colours are used up

STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
.head { font-size: 15px; font-weight: 600; }
.title { font-size: 13px; font-weight: 600; }
.small { font-size: 11px; fill: #57606a; }
.page { fill: #ffffff; }
.panel { fill: #ffffff; stroke: #d0d7de; }
.grid { stroke: #e4e8ec; }
.axis { stroke: #8c959f; }
.mark { stroke: #8c959f; stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.dot { stroke-width: 5; }
.band { fill-opacity: 0.35; }
"""
STYLE_DARK = """
text { fill: #e6edf3; }
.small { fill: #9aa4af; }
.page { fill: #0d1117; }
.panel { fill: #0d1117; stroke: #30363d; }
.grid { stroke: #21262d; }
.axis, .mark { stroke: #6e7681; }
"""


class Line(NamedTuple):
    label: str
    points: list


class Mark(NamedTuple):
    x: float
    text: str


class Panel(NamedTuple):
    title: str
    lines: list
    unit: str = ""
    x: str = "seconds"
    x_label: str = ""
    log: str = ""
    marks: list = ()
    span: tuple = None
    stacked: bool = False
    steps: bool = False


def draw(path, title, panels, columns=2, note=""):
    """Write the panels to a file of that path."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(svg(title, panels, columns, note))


def svg(title, panels, columns=2, note=""):
    """The panels, in rows of that many, as the text of an SVG file."""
    colors = _colors(panels)
    drawn = [_panel(panel, color) for panel, color in zip(panels, colors)]
    step = LEFT + WIDTH + RIGHT + MARGIN
    parts, top = [], MARGIN + HEAD
    for first in range(0, len(drawn), columns):
        row = drawn[first : first + columns]
        height = max(height for height, _ in row)       # neighbours are as high as the highest
        for column, (_, body) in enumerate(row):
            parts.append(
                f'<g transform="translate({MARGIN + column * step} {top})">'
                f'<rect class="panel" width="{step - MARGIN}" height="{height}" rx="6"/>{body}</g>'
            )
        top += height + MARGIN
    width = MARGIN + step * min(columns, max(len(drawn), 1))
    if note:
        parts.append(_text(MARGIN, top + 8, _fit(note, width - 2 * MARGIN), "small"))
        top += FOOT
    head = _fit(title, width - 2 * MARGIN, CHARACTER * 1.4)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" role="img">',
            f"<title>{_xml(title)}</title>",
            f"<style>{_style()}</style>",
            f'<rect class="page" width="{width}" height="{top}"/>',
            _text(MARGIN, MARGIN + 14, head, "head"),
            *parts,
            "</svg>\n",
        ]
    )


def _style():
    def strokes(colors):
        return "".join(f".c{i} {{ stroke: {color}; }}\n.b{i} {{ fill: {color}; }}\n" for i, color in enumerate(colors))

    # the system's setting counts, also within an <img>
    return f"{STYLE}{strokes(LIGHT)}@media (prefers-color-scheme: dark) {{{STYLE_DARK}{strokes(DARK)}}}\n"


def _colors(panels):
    """For each panel its lines' numbers of colour: what a label had before, else the first that is free."""
    known, all_colors = {}, []
    for panel in panels:
        taken = {known[line.label] for line in panel.lines if line.label in known}
        colors = []
        for line in panel.lines:
            number = known.get(line.label)
            if number is None or number in colors:
                number = next(n for n in range(len(panel.lines) + len(taken) + 1) if n not in taken and n not in colors)
                known.setdefault(line.label, number)
            colors.append(number)
        all_colors.append(colors)
    return all_colors


def _panel(panel, colors):
    """A panel as (height, what is in it)."""
    lines = [_finite(line.points, panel.log) for line in panel.lines]
    if panel.steps:
        lines = [_steps(line) for line in lines]
    bases = [[(x, 0) for x, _ in line] for line in lines]
    if panel.stacked:
        _stack(lines, bases)
    points = [point for line in lines for point in line if point[1] is not None]
    marks = [mark for mark in panel.marks if _number(mark.x) is not None]
    out = [_text(12, 21, _fit(panel.title, WIDTH, CHARACTER * 1.25), "title")]
    if panel.unit not in DURATIONS and panel.unit != "bytes":
        out.append(_text(LEFT + WIDTH, 21, _fit(panel.unit, WIDTH / 3), "small", "end"))
    height = TOP + HEIGHT + BOTTOM + (LABELLED if panel.x_label else 0)
    if points:
        xs = [_clamp(x) for x in panel.span] if panel.span else [x for x, _ in points]
        x_axis = Axis(xs, WIDTH, {"seconds": "s"}.get(panel.x, panel.x), "x" in panel.log, 6)
        ys = [y for _, y in points]
        if "y" not in panel.log:
            ys.append(0)
        y_axis = Axis(ys, HEIGHT, panel.unit, "y" in panel.log, 4, rounded=True)
        out += _grid(x_axis, y_axis)
        out += [_mark(mark, x_axis) for mark in marks if x_axis.low <= mark.x <= x_axis.high]
        for line, of_line, base, number in zip(panel.lines, lines, bases, colors):
            if panel.stacked:
                out += _band(line.label, number, of_line, base, x_axis, y_axis)
            else:
                out += _line(line.label, number, of_line, x_axis, y_axis)
    else:
        out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}v{HEIGHT}h{WIDTH}"/>')
        out.append(_text(LEFT + WIDTH / 2, TOP + HEIGHT / 2 + 4, "no data", "small", "middle"))
    if panel.x_label:
        out.append(_text(LEFT + WIDTH / 2, TOP + HEIGHT + 34, _fit(panel.x_label, WIDTH), "small", "middle"))
    rows, legend = _legend([line.label for line in panel.lines], colors, height + 8)
    return height + rows * LEGEND_ROW + LEGEND_END, "".join(out + legend)


def _grid(x_axis, y_axis):
    out = []
    for value, label in y_axis.ticks:
        y = TOP + HEIGHT - y_axis.pixel(value)
        out.append(f'<path class="grid" d="M{LEFT} {y:.1f}h{WIDTH}"/>' + _text(LEFT - 6, y + 4, label, "small", "end"))
    for value, label in x_axis.ticks:
        x = LEFT + x_axis.pixel(value)
        out.append(f'<path class="axis" d="M{x:.1f} {TOP + HEIGHT}v4"/>')
        out.append(_text(x, TOP + HEIGHT + 17, label, "small", "middle"))
    out.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}v{HEIGHT}h{WIDTH}"/>')
    return out


def _mark(mark, x_axis):
    x = LEFT + x_axis.pixel(mark.x)
    left = x > LEFT + WIDTH / 2         # the text stands on the side that has room
    text = _fit(mark.text, WIDTH / 2)
    return f'<path class="mark" d="M{x:.1f} {TOP}v{HEIGHT}"/>' + _text(
        x - 4 if left else x + 4, TOP + 10, text, "small", "end" if left else "start"
    )


def _line(label, number, points, x_axis, y_axis):
    """A line between its gaps, and a dot for each point that is alone."""
    runs = [[]]
    for x, y in _thinned(points, x_axis):
        if y is None:
            runs.append([])
        else:
            runs[-1].append((f"{LEFT + x_axis.pixel(x):.1f}", f"{TOP + HEIGHT - y_axis.pixel(y):.1f}"))
    runs = [[" ".join(point) for point in _bends(run)] for run in runs]
    name = f"<title>{_xml(label)}</title>"
    lines = "".join("M" + "L".join(run) for run in runs if len(run) > 1)
    dots = "".join(f"M{run[0]}h0" for run in runs if len(run) == 1)     # round ends make it one
    return [f'<path {_stroke(number)} d="{lines}">{name}</path>'] * bool(lines) + [
        f'<path class="line dot c{number % len(LIGHT)}" d="{dots}">{name}</path>'
    ] * bool(dots)


def _bends(run):
    """A run without the points in the middle of what is level: there are many where nothing happens."""
    return [
        point for i, point in enumerate(run)
        if i in (0, len(run) - 1) or not run[i - 1][1] == point[1] == run[i + 1][1]
    ]


def _steps(line):
    """The line with each point once more where the next one is."""
    return line[:1] + [point for (_, y), after in zip(line, line[1:]) for point in ((after[0], y), after)]


def _stack(lines, bases):
    """Put each line on top of those before it, and say in bases where it begins."""
    heights = [0] * max(map(len, lines), default=0)
    for line, base in zip(lines, bases):
        for i, (x, y) in enumerate(line):
            base[i] = x, heights[i]
            if y is not None:
                heights[i] += y
                line[i] = x, heights[i]


def _band(label, number, tops, bases, x_axis, y_axis):
    """What lies between a line and the ones below it, without its gaps."""
    runs = [[]]
    for (x, top), (_, base) in zip(tops, bases):
        if top is None or not x_axis.low <= x <= x_axis.high:
            runs.append([])
        else:
            x = f"{LEFT + x_axis.pixel(x):.1f}"
            top, base = (f"{TOP + HEIGHT - y_axis.pixel(y):.1f}" for y in (top, base))
            runs[-1].append(((x, top), (x, base)))
    shapes = []
    for run in filter(None, runs):
        outline = _bends([top for top, _ in run]) + _bends([base for _, base in reversed(run)])
        shapes.append("M" + "L".join(map(" ".join, outline)) + "Z")
    if not shapes:
        return []
    number %= len(LIGHT)
    return [f'<path class="band c{number} b{number}" d="{"".join(shapes)}"><title>{_xml(label)}</title></path>']


def _thinned(points, x_axis):
    """Of the points that share a pixel of x, the first, lowest, highest and last, in order; all gaps."""
    bucket, at = [], None
    for x, y in points:
        pixel = None if y is None else int(x_axis.pixel(x))
        if pixel != at or y is None:
            yield from _outline(bucket)
            bucket, at = [], pixel
        if y is None:
            yield x, None
        elif x_axis.low <= x <= x_axis.high:
            bucket.append((x, y))
    yield from _outline(bucket)


def _outline(points):
    if len(points) <= 4:
        return points
    order = range(len(points))
    keep = {0, len(points) - 1, min(order, key=lambda i: points[i][1]), max(order, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(keep)]


def _legend(labels, colors, top):
    """The lines' names, in as many rows as they need: (rows, what is drawn)."""
    out, row, left, room = [], 0, 12, LEFT + WIDTH + RIGHT - 24
    for label, number in zip(labels, colors):
        label = _fit(label, room - 22)
        width = 22 + _width(label) + 12
        if left > 12 and left + width > room + 24:
            row, left = row + 1, 12
        y = top + row * LEGEND_ROW
        out.append(f'<path {_stroke(number)} d="M{left} {y}h16"/>' + _text(left + 22, y + 4, label, "small"))
        left += width
    return row + 1 if labels else 0, out


def _stroke(number):
    dash = DASHES[number // len(LIGHT) % len(DASHES)]
    return f'class="line c{number % len(LIGHT)}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _text(x, y, text, kind, anchor="start"):
    if not text:
        return ""
    anchor = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{_xml(text)}</text>'


def _xml(text):
    """Text for XML, which has no control characters and no halves of surrogate pairs."""
    kept = (c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else "\ufffd" for c in str(text))
    return escape("".join(kept), {'"': "&quot;"})


def _width(text):
    """About how many pixels small text takes."""
    return CHARACTER * sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text, room, character=CHARACTER):
    """The text, cut off where it would not fit."""
    text = str(text)
    if _width(text) * character / CHARACTER <= room:
        return text
    while text and _width(text + "…") * character / CHARACTER > room:
        text = text[:-1]
    return text + "…"


def _number(value):
    """A finite float, or None."""
    if value is None:
        return None
    value = float(value)
    return _clamp(value) if math.isfinite(value) else None


def _clamp(value):
    return min(max(float(value), -HUGE), HUGE) if abs(value) >= TINY else 0.0


def _finite(points, log):
    """The points, with None for each y that can't be drawn; those whose x can't are left out."""
    out = []
    for x, y in points:
        x, y = _number(x), _number(y)
        if x is None or ("x" in log and x <= 0):
            continue
        out.append((x, None if y is not None and "y" in log and y <= 0 else y))
    return out


# ---- axes

DURATIONS = ("ms", "s")
TIMES = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3)]
STEPS = {"min": (1, 2, 5, 10, 15, 30), "h": (1, 2, 3, 4, 6, 12), "clock": (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
         3600, 7200, 10800, 21600, 43200, 86400)}


class Axis:
    """Where values lie on an axis of that many pixels, and its ticks as (value, label)."""

    def __init__(self, values, pixels, unit, log, count, rounded=False):
        low, high = min(values), max(values)
        self.pixels, self.log = pixels, log
        if log:
            self.low, self.high, self.ticks = _log_ticks(low, high, unit)
        else:
            if high <= low:             # one value: some room around it
                low, high = min(low, 0) if rounded else low, max(low + max(abs(low) * 1e-9, 1), 1 if rounded else low)
            step, label = _step(low, high, unit, count, all(value == int(value) for value in values))
            if rounded:
                low, high = math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step
            self.low, self.high = low, high
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            self.ticks = [(n * step, label(n * step)) for n in range(first, min(last, first + 4 * count) + 1)]

    def pixel(self, value):
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return (value - low) / (high - low) * self.pixels


def _step(low, high, unit, count, whole=False):
    """The distance of ticks and how a value is written, for about that many ticks, of whole numbers if so asked."""
    span, far = high - low, max(abs(low), abs(high))
    if unit == "clock":
        step = next((s for s in STEPS["clock"] if span / s <= count), 86400 * _nice(span / 86400 / count))
        form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%m-%d"
        return step, lambda value: _clock(value, form)
    scale, word = 1, ""
    steps = ()
    if unit in DURATIONS:
        base = 1 if unit == "s" else 1e-3
        # minutes and more from 2.5 of them on: 90 s is better read than 1.5 min
        word, seconds = next((t for t in TIMES if far * base >= t[1] * (2.5 if t[1] > 1 else 1)), TIMES[-1])
        scale, steps = seconds / base, STEPS.get(word, ())
    elif unit == "bytes":
        power = min(int(math.log(far, 1024)), 6) if far >= 1024 else 0
        scale, word = 1024**power, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")[power]
    elif 10000 <= far < 1e18:
        power = min(int(math.log10(far) / 3 + 1e-9), 5)
        scale, word = 1000**power, ("", "k", "M", "G", "T", "P")[power]
    step = next((s for s in steps if span / scale / s <= count), None) or _nice(span / scale / count)
    if whole and scale == 1 and not word:
        step = max(step, 1)
    return step * scale, lambda value: f"{_short(value / scale)} {word}".rstrip() if value else "0"


def _clock(value, form):
    try:
        return datetime.fromtimestamp(value, timezone.utc).strftime(form)
    except (ValueError, OverflowError, OSError):        # beyond what has a date
        return _short(value)


def _nice(rough):
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= rough * (1 - 1e-9))


def _short(value):
    if abs(value) >= 1e6:
        return f"{value:.2g}".replace("e+", "e")
    return f"{value:.6g}" if abs(value) < 1000 else f"{value:,.0f}"


def _log_ticks(low, high, unit):
    """(low, high, ticks) of a logarithmic axis; whole decades are ticks, 2 and 5 times them where there is room."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    last = max(last, first + 1)
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    every = max(1, math.ceil((last - first) / 6))
    values = [f * 10.0**n for n in range(first, last + 1, every) for f in factors if f * 10.0**n <= 10.0**last * (1 + 1e-9)]
    return 10.0**first, 10.0**last, [(v, _step(0, v, unit, 1)[1](v)) for v in values]
