"""The pure core of ffd: it decides, and does nothing else.

Laws of this room:
1. No I/O, clock, randomness, threads or event loop. Time and ids come in as arguments.
2. Four message families cross its border, nothing else: `commands` (asked), `reports` (observed), `events` (decided),
   `effects` (what the shell must now do).
3. `State.apply(event)` is the only code that writes state; `State.load(rows)` the only other way in.
4. Lifecycles are tables (`lifecycle.py`). Control flow is three tables (`step.py`).
5. Same state and same inputs give the same output, whatever the hash seed: no set is ever iterated into an event.

Read: model -> commands, reports, events, effects -> lifecycle -> state -> step -> submit -> control -> schedule
-> launch -> observe -> finish -> views.
"""
