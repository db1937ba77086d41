"""Schedule: where. `cycle` plans and verifies, `place` finds room for one gang, `explain` says why not.

Reads state and returns proposals; never writes state. Now: priority, then submit order, first fit by class; gangs all
or nothing. Called by `core.step` (the cycle) and `core.views` (explain).
"""
