"""The verbs of the command line; the only modules here that know click."""
