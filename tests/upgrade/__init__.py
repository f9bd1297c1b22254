"""Databases of every version that ever was, and what the present program makes of them."""
