"""The wire: `ffd/v1/*.proto` and the Python code generated from them (`generate.py`). Imports nothing of ours.

Who converts between these messages and the core's structs: `ffd.api.codec`; nobody else outside `ffd.api` and `ffd.sdk`
touches a message.
"""
