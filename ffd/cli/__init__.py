"""The command line of ffd: one file per verb group. stdout is data, stderr is talk.

Never here: decisions about workflows (the daemon's), waiting without an event, a heavy import outside a verb.
Read: main (which verbs there are) -> session (what each verb gets) -> a verb -> output and terminal (how it shows).
"""
