"""Plugins: storage, runtimes, logs and authentication behind the Protocols of `ports`; found by `registry`.

A plugin knows core, the ports and errors, never another plugin, the daemon or the API.
"""
