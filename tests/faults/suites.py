"""The long suites by name, in the order of the table."""

from tests.faults.rows import Suite

SUITES: dict[str, Suite] = {
    "kills": Suite("kills:kills", 1_000),
    "power": Suite("disks:power", 5_000),
    "full": Suite("full:full", 100),
    "errors": Suite("disks:errors", 5_000),
    "damage": Suite("damage:damage", 500),
    "network": Suite("network:network", 320),
    "namespaces": Suite("namespaces:namespaces", 0),
    "slow": Suite("slow:slow", 40),
    "pauses": Suite("pauses:pauses", 100),
    "amnesia": Suite("amnesia:amnesia", 100),
    "backlog": Suite("backlog:backlog", 1_000_000),
    "absence": Suite("absence:absence", 1_800),
    "herd": Suite("herd:herd", 10, alone=True),
    "clocks": Suite("clocks:clocks", 500),
    "duplicates": Suite("duplicates:duplicates", 1_000_000),
    "copies": Suite("copies:copies", 36),
    "poison": Suite("poison:poison", 1_000),
    "upgrade": Suite("upgrade:upgrade", 400),
    "writers": Suite("writers:writers", 5_000),
    "simulation": Suite("simulated:simulation", 720),
    "isolation": Suite("strangers:isolation", 5_000),
    "forgery": Suite("strangers:forgery", 20_000),
    "malformed": Suite("strangers:malformed", 200_000),
    "floods": Suite("strangers:floods", 9_000, alone=True),
    "soak": Suite("soak:soak", 200, demanded=True),
}
