"""A disk that loses power and fails, beneath the SQLite library that the product loads."""
