"""The verbs of `hq`, a file each; click is imported here and nowhere else at HQ.

A verb reads its words, asks the ledger, and shows the answer. What the answer is, the ledger's
modules know; how it looks, `buskit.terminal`.
"""
