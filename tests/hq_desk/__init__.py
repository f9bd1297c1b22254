"""Tests of HQ's end of the protocol, with a real ledger and no link."""
