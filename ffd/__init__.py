"""ffd, the FlowForge daemon: one writer decides; everybody else reports.

Inside a task this package is the SDK (`ffd.current()`, `ffd.set_output()` ...), loaded on first use so that
`import ffd` stays light for everybody else.
"""

__version__ = "0.1.0"
