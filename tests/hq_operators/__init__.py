"""Who may do what, what is settled per kind, and rules as people write them: all of it pure."""
