"""The long suites by name, in the order of the table."""

from tests.faults.rows import Suite

SUITES: dict[str, Suite] = {
    "isolation": Suite("strangers:isolation", 5_000),
    "forgery": Suite("strangers:forgery", 20_000),
    "malformed": Suite("strangers:malformed", 200_000),
    "floods": Suite("strangers:floods", 9_000, alone=True),
}
