"""The result of a simulation as one HTML file: figures and charts, nothing from outside, no script, light and dark.

`page(results)` -> text. Everything that came from data is escaped; the page forbids itself all loading (a content
security policy), so it may be served from anywhere. Called by `ffd simulate --html`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ffd.simulate.charts import gantt, span_text, tenants_of, used_chart, waiting_chart
from ffd.simulate.result import PLOTTED_COUNT, Result, Share, SizeWaits

# Twelve colours that are told apart on light and on dark ground, and a grey for the rest.
COLOURS = (
    "#4477cc", "#dd8833", "#33997a", "#bb4466", "#8866cc", "#aa9922",
    "#2299bb", "#cc6644", "#669933", "#cc66aa", "#777799", "#996644",
)  # fmt: skip
OTHERS_COLOUR = "#888888"

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1c2024; --soft: #6b7280; --rule: #d9dde3; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e8ea; --soft: #9aa1a9; --rule: #343a41; } }
body { margin: 2rem auto; max-width: 74rem; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } tr.total td { font-weight: 600; }
svg { width: 100%; height: auto; display: block; } svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--rule); stroke-width: 1; fill: none; } svg .area { opacity: .85; stroke: none; }
svg .line { fill: none; stroke-width: 1.6; }
svg .capacity { fill: none; stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 5 3; }
svg .bar { stroke: var(--ground); stroke-width: .5; }
svg .bar.failed, svg .bar.preempted, svg .bar.cancelled {
  fill-opacity: .35; stroke: var(--ink); stroke-dasharray: 2 2; stroke-width: 1; }
svg text.inbar { font-size: 9.5px; fill: #ffffff; }
svg .bar.failed + .inbar, svg .bar.preempted + .inbar, svg .bar.cancelled + .inbar { fill: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .3rem 0; padding: 0; list-style: none; }
.legend svg { width: .8rem; height: .8rem; display: inline-block; vertical-align: -1px; margin-right: .35rem; }
"""


def page(results: Sequence[Result]) -> str:
    """The whole file."""
    colours = tenants_of(results)
    others = len(colours)
    style = STYLE + "".join(
        f".t{number} {{ fill: {colour}; }} .t{number}.line {{ fill: none; stroke: {colour}; }}\n"
        for number, colour in enumerate(_colour(number) for number in range(others + 1))
    )
    title = "ffd simulate: " + ", ".join(result.label for result in results if result.label)
    sections = "".join(_section(result, colours, others, len(results) > 1) for result in results)
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{sections}</body></html>\n"
    )


def _colour(number: int) -> str:
    return COLOURS[number] if number < min(PLOTTED_COUNT, len(COLOURS)) else OTHERS_COLOUR


def _section(result: Result, colours: dict[str, int], others: int, is_one_of_many: bool) -> str:
    told = (
        f"{span_text((result.end_ms - result.begin_ms) / 1_000)} simulated on {result.capacity:g} {result.unit}s, "
        f"makespan {span_text(result.makespan_s)}, {100 * result.total.utilisation:.1f} % used"
    )
    parts = [f"<h2>{escape(result.label)}</h2>" if is_one_of_many else "", f"<p>{escape(told)}</p>"]
    if result.notes:
        parts.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in result.notes) + "</ul>")
    parts += [_shares(result), _sizes(result), _legend(result, colours)]
    parts += [f"<h3>{escape(result.unit)}s in use</h3>", used_chart(result, colours)]
    parts += ["<h3>Gangs that wait</h3>", waiting_chart(result, colours)]
    if result.gantt:
        held = f"the {len(result.gantt)} attempts that held most for longest; dashed: failed, preempted or cancelled"
        parts += [f'<h3>Gangs over time</h3><p class="soft">{held}</p>', gantt(result, colours, others)]
    return "\n".join(parts) + "\n"


def _legend(result: Result, colours: dict[str, int]) -> str:
    entries = [
        f'<li><svg viewBox="0 0 10 10"><rect class="t{colours[line.tenant]}" width="10" height="10" rx="2"/></svg>'
        f"{escape(line.tenant)}</li>"
        for line in result.plot.lines
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>'


Cells = Sequence[tuple[str, Callable[[Any], str]]]


def _table(rows: Sequence[Any], cells: Cells, total: Any = None) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in cells)
    body = "".join(f"<tr>{_cells(row, cells)}</tr>" for row in rows)
    foot = f'<tr class="total">{_cells(total, cells)}</tr>' if total is not None else ""
    return f'<div class="scroll"><table><tr>{head}</tr>{body}{foot}</table></div>'


def _cells(row: Any, cells: Cells) -> str:
    return "".join(f"<td>{escape(text(row))}</td>" for _, text in cells)


def _shares(result: Result) -> str:
    def of(share: Share) -> str:
        return share.tenant or "(all)"

    cells: Cells = (
        ("project", of),
        ("gangs", lambda one: f"{one.gangs:,}"),
        ("started", lambda one: f"{one.started:,}"),
        ("failed", lambda one: f"{one.failed:,}"),
        ("waiting", lambda one: f"{one.waiting:,}"),
        ("mean wait", lambda one: span_text(one.wait.mean_s)),
        ("p50", lambda one: span_text(one.wait.p50_s)),
        ("p99", lambda one: span_text(one.wait.p99_s)),
        ("max", lambda one: span_text(one.wait.max_s)),
        (f"{result.unit}-hours", lambda one: f"{one.used_hours:,.1f}"),
        ("used", lambda one: f"{100 * one.utilisation:.1f} %"),
        ("preempted", lambda one: f"{one.preemptions:,}"),
        ("lost hours", lambda one: f"{one.lost_hours:,.1f}"),
    )
    return _table(result.tenants, cells, result.total)


def _sizes(result: Result) -> str:
    cells: Cells = (
        (f"gang {result.unit}s", size_text),
        ("settled", lambda one: f"{one.wait.count:,}"),
        ("mean wait", lambda one: span_text(one.wait.mean_s)),
        ("p50", lambda one: span_text(one.wait.p50_s)),
        ("p90", lambda one: span_text(one.wait.p90_s)),
        ("p99", lambda one: span_text(one.wait.p99_s)),
        ("max", lambda one: span_text(one.wait.max_s)),
    )
    return f"<h3>Waits by size</h3>{_table(result.sizes, cells)}"


def size_text(size: SizeWaits) -> str:
    """`1`, `5-8`, `257+`: what gangs of a class hold."""
    if size.least == size.most:
        return f"{size.least}"
    return f"{size.least}-{size.most}" if size.most else f"{size.least}+"
