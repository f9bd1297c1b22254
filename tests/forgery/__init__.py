"""Messages that nobody said: every kind, altered, moved, said again or signed by others.

`bus` is an honest head office and honest devices in memory; `story` lets them say every kind of
message; before each is delivered, `forger` makes its forgeries and `test_forgery` sees that none of
them changes anything, and that the genuine one then does.
"""
