"""Who can do what on the bus, asked over real connections and compared with a hand-written table.

`table` says what is right and is meant to be read by a person; nothing in it comes from the code
that decides. `engines` puts a broker under the suite by name, `world` has the organisation and the
connections, `suite` asks the questions.
"""
