"""Simulate: the scheduler of the daemon on a virtual clock, and what comes out of it. Nothing runs, nothing is stored.

- `engine`: a world around the real `core.step`: inputs go in at their instants, effects are performed, time jumps.
- `record`: what is told of a run: gangs, waits, utilisation, preemptions; aggregated while it goes on.

Imports core, errors, settings and the two pure modules beside the plugins (`pretend`, `behaviour`). Called by
`ffd simulate` and the benches. Never here: event loops, threads, files, a second scheduler.
"""
