"""Admit: may it start, and who comes first? `quota` and `share` say what a tenant may and has, `order` who is next.

Reads state; never writes it. Called by `core.schedule`, `core.submit`, `core.views`. Never here: where a gang fits.
"""
