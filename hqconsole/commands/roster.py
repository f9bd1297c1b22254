"""`roster`: its verbs by name; each is imported only when it runs."""

from buskit.cli import CommandGroup

_HERE = "hqconsole.commands"

roster = CommandGroup(
    name="roster",
    help=(
        "The organisation as data: regions, stores, roles, devices.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq roster import stores.csv --dry-run\n"
        '  hq roster import list.csv --map store_id="Store Number" region=Country\n'
        "  hq roster show --region east\n"
        "  hq roster assign S017 till-1 --role manager\n"
    ),
    sections={
        "Verbs": {
            "import": (f"{_HERE}.roster_import:import_roster", "Take over a list of stores."),
            "show": (f"{_HERE}.roster_show:show", "List the stores."),
            "columns": (f"{_HERE}.roster_columns:columns", "What --where can ask of the stores."),
            "devices": (f"{_HERE}.roster_show:devices", "List the devices."),
            "assign": (f"{_HERE}.roster_assign:assign", "Say which roles a device serves."),
        }
    },
)
