"""Simulate: the scheduler of the daemon on a virtual clock, and what comes out of it. Nothing runs, nothing is stored.

- `engine`: a world around the real `core.step`: inputs go in at their instants, effects are performed, time jumps.
- `record`, `measure`: what is told of a run: gangs, waits, utilisation, preemptions; gathered while it goes on.
- `result`: the same as frozen structs, for JSON, the table and the page.

Imports core, errors, settings and the two pure modules beside the plugins (`pretend`, `behaviour`). Called by
`ffd simulate` and the benches. Never here: event loops, threads, files, a second scheduler.
"""
