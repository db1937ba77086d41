"""Shipped for tests: builders, a simulation, and one conformance suite per plugin kind."""
