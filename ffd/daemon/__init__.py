"""The shell: everything that happens. It feeds the pure core, makes its decisions durable, and acts on them.

    inbox -> controller -> launcher -> (runtime) -> watcher -> inbox

Read: wire (what is put together) -> tree (the tasks) -> leader, tenure -> reign -> recovery -> inbox -> controller
-> launcher, timers -> watcher, poison; then engine, barrier, reads, names, publisher, ephemeral for what clients see.
Laws of this room: persist, then act; nothing is shown before it is durable; time and chance come from `clock` only;
`except Exception` stands in `roots` only; whatever grows has a limit with a name.
"""
