"""Measured figures: `python -m bench`. Ratios within one run, so that slow machines do not lie.

No figure here is a test: what is not met is printed, and nothing fails.
"""
