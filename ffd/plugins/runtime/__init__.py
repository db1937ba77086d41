"""Runtimes: what runs gangs. `local` (processes of this machine) and `virtual` (a simulated cluster) implement
ports.Runtime and do not know each other.

The local one, top to bottom: `local` (the life of a replica) -> `prepare` (its files, environment, command), `gangs` ->
`warden_link`, `warden` (the parent of all processes) -> `records` (what proves that it ran, and lives) -> `hunter` (how
all of it is ended) -> `remains` (what it left), `keeper` (how large its log grows); `processes` holds what differs
between systems.
"""
