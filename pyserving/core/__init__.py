"""The life of servables: who is loaded, who serves, who goes. Knows no format and no wire.

A Source says which versions of a stream are aspired. The Manager makes reality follow: a transition policy picks
what to load and unload next, a Harness takes one Loader through its phases, a handle keeps a version loaded while a
request uses it. Each step is an event on the bus, from which the monitor, metrics and logs know the states.
"""
