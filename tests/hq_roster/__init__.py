"""The organisation: reading store lists, choosing audiences, placing moments."""
