"""The page: whole, without anything from outside, without unescaped data, whatever the data is."""

from __future__ import annotations

import random
import xml.dom.minidom

import msgspec
from test_engine import S, job, world_of

from ffd.simulate.charts import span_text
from ffd.simulate.page import page, size_text
from ffd.simulate.record import Recorder
from ffd.simulate.result import OTHERS, PLOTTED_COUNT, Result, SizeWaits, result_of
from ffd.testing.builders import spec, submit, task

EVIL = "<script>alert('x')</script>&\"]]>"


def simulated(projects: list[str], until_ms: int | None = None) -> Result:
    world, _ = world_of(gpu_count=4)
    world.run()
    recorder = Recorder(world)
    chance = random.Random(3)
    world.feed(
        (k * S, submit(job(1 + k % 3, retries=1), project=projects[k % len(projects)]), chance.randrange(90) * S)
        for k in range(80)
    )
    world.run(until_ms)
    return result_of(recorder, "fair", [f"a note {EVIL}"])


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    text = page([simulated(["a", "b"]), msgspec.structs.replace(simulated(["a", "c"]), label="fifo")])
    xml.dom.minidom.parseString(text)
    for word in ("<script", "http:", "https:", "src=", "@import", "url(", "javascript"):
        assert word not in text.replace('xmlns="http://www.w3.org/2000/svg"', ""), word
    assert "default-src 'none'" in text
    assert text.count("<h2>") == 2 and text.count('<svg viewBox="0 0 960') == 6


def test_data_is_escaped_wherever_it_stands() -> None:
    text = page([simulated([EVIL, "b"])])
    xml.dom.minidom.parseString(text)
    assert "alert('x')" not in text and "<script" not in text
    assert text.count("&lt;script&gt;") > 4  # table, legend, tooltips, note


def test_many_tenants_share_a_colour_and_a_line() -> None:
    result = simulated([f"p{k:02}" for k in range(20)])
    assert len(result.plot.lines) == PLOTTED_COUNT + 1 and result.plot.lines[-1].tenant == OTHERS
    whole = [sum(line.used[k] for line in result.plot.lines) for k in range(len(result.plot.capacity))]
    assert max(whole) <= 4.01 and abs(sum(whole) * result.plot.bin_s / 3600 - result.total.used_hours) < 0.01
    xml.dom.minidom.parseString(page([result]))


def test_what_runs_at_the_end_is_drawn() -> None:
    result = simulated(["a"], until_ms=40 * S)
    running = [bar for bar in result.gantt if bar.outcome == "running"]
    assert running and all(bar.end_ms == result.end_ms for bar in running)
    assert f"{len(result.gantt)} attempts" in page([result])


def test_nothing_at_all_makes_a_page_too() -> None:
    world, _ = world_of()
    recorder = Recorder(world)
    xml.dom.minidom.parseString(page([result_of(recorder)]))
    world.feed([(0, submit(spec(task("a"))), 0)])
    world.run()
    xml.dom.minidom.parseString(page([result_of(recorder)]))


def test_words_for_spans_and_sizes() -> None:
    spans = [span_text(seconds) for seconds in (0, 0.85, 12, 185, 7_620, 4 * 86_400 + 3 * 3_600)]
    assert spans == ["0ms", "850ms", "12s", "3m05s", "2h07m", "4d03h"]
    waits = simulated(["a"]).total.wait
    assert [size_text(SizeWaits(*size, waits)) for size in ((0, 0), (1, 1), (5, 8), (257, 0))] == [
        "0",
        "1",
        "5-8",
        "257+",
    ]
