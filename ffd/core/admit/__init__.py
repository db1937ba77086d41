"""Admit: may it start, and who comes first? Quota and share of the tenant tree; pure functions over `core.tenancy`.

Called by `core.schedule`, `core.submit`, `core.views`. Never here: where something fits (schedule), changing anything.
"""
