"""Bytes that are no MQTT, or almost: what the standard demands of a broker that gets them.

`judge` is the oracle, written from the OASIS standard of MQTT 3.1.1; `cases` makes the bytes, pure
and seeded; `drive` sends them to a broker in a process of its own and compares. A test lets some
thousands pass, `make faults` some hundred thousand.
"""
