"""`hq demo`: a small chain on one machine, from the first directive to the proof.

`chain` starts and stops the processes, `story` is what happens in them, `proof` counts at the end.
Everything is done through the commands that a person would type; only the ledger is read directly.
"""
