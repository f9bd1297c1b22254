"""The command `storeagent`: its verbs by section. Each verb is imported only when it runs."""

import click

from storeagent.commands.speaking import SpeakingGroup

_COMMANDS = "storeagent.commands"


class _WithFleet(SpeakingGroup):
    """Knows one command that no list shows: it is for demonstrations and load, not for stores."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "fleet":
            return super().get_command(ctx, cmd_name)
        from storeagent.commands.fleet import fleet  # noqa: PLC0415 - like the other verbs

        return fleet


main = _WithFleet(
    name="storeagent",
    help=(
        "A store device on the bus: its work, its answers, its figures.\n\n"
        "Everything works without a network and without the daemon; the daemon "
        "(storeagent run) carries it to head office when it can.\n\n"
        "\b\n"
        "Examples:\n"
        "  storeagent inbox            what is to do\n"
        "  storeagent show 2           number 2 of it, with its text\n"
        "  storeagent done 2 --by Ana  say that it is done\n"
        "  storeagent cannot 3         say that it cannot be done; asks why\n"
    ),
    staff=("inbox", "show", "read", "start", "done", "cannot", "reply", "status"),
    context_settings={"help_option_names": ["-h", "--help"]},
    sections={
        "Work": {
            "inbox": (f"{_COMMANDS}.look:inbox", "List what is to do, the most pressing first."),
            "show": (f"{_COMMANDS}.look:show", "Show one directive with its text."),
            "read": (f"{_COMMANDS}.say:read", "Say that somebody has read it."),
            "start": (f"{_COMMANDS}.say:start", "Say that the work has begun."),
            "done": (f"{_COMMANDS}.say:done", "Say that the work is done."),
            "cannot": (f"{_COMMANDS}.say:cannot", "Say that the store cannot do it, and why."),
            "reply": (f"{_COMMANDS}.say:reply", "Answer in the directive's thread."),
        },
        "Scripts": {
            "alert": (f"{_COMMANDS}.alert:alert", "Raise an alert: replenishment, incident, ..."),
            "report": (f"{_COMMANDS}.report:report", "Send a table of sales or stock figures."),
        },
        "This device": {
            "status": (f"{_COMMANDS}.look:status", "Say whether all is well, and what waits."),
            "retry": (f"{_COMMANDS}.retry:retry", "Ask again for what could not be used."),
            "join": (f"{_COMMANDS}.join:join", "Become a device, with a bundle from head office."),
            "init": (f"{_COMMANDS}.init:init", "Change the settings of this device."),
            "run": (f"{_COMMANDS}.run:run", "Run the daemon that speaks with head office."),
        },
    },
)

if __name__ == "__main__":
    main()
