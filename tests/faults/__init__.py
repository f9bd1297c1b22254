"""The long suites: `make faults`, or `python -m tests.faults`."""
