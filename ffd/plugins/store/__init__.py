"""Stores: durable rows, the story of events, and the lease. One file per backend, all alike to their callers.

`memory` and `sqlite` implement `ports.Store`; `story` (encoding and chain) and `lease` (who may lead) are the rules
they share. Never here: what a row means. Made by the registry; called by `daemon`.
"""
