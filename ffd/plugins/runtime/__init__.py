"""Runtimes: what runs gangs. `local` (processes of this machine) and `virtual` (a simulated cluster) implement
ports.Runtime and do not know each other.

The local one, top to bottom: `local` (the life of a replica) -> `prepare` (its files, environment, command) with
`gangs` -> `records` (what proves that it lives, and what it left) -> `shim` (how it is started), `hunter` (how it is
ended), `remains` (what it said) and `keeper` (how large its log grows); `processes` holds what differs between systems.
"""
