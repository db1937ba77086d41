"""Named experiments on the real daemon. Each prints a table: figure, floor measured in the same run, ratio, bar.

`python -m bench` runs all, `python -m bench NAME...` some. Nothing here is a test: timing is measured, never asserted.
"""
