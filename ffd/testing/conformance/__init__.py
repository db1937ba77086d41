"""One conformance suite per plugin kind: what its Protocol promises, as checks that any implementation can run.

Each suite is a tuple `CHECKS` of async functions that take a way to open the implementation under test and raise
AssertionError when a promise is broken. No test framework is needed; with pytest, parametrize over CHECKS.
"""
