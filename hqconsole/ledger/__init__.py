"""HQ's database, one module per subject; the only place at HQ where SQL is written.

`opening` opens it, `organisation` and `devices` hold who is there, `channels` the downlink logs,
`directives` and `deliveries` what was asked and how far it is, `arrivals` what devices said,
`troubles` what could not be used, `views` what the console reads. The functions take the
connection of a transaction that the caller opened: several of them make one commit.
"""
