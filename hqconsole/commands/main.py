"""The command `hq`: its verbs by section. Each verb is imported only when it runs."""

from buskit.cli import CommandGroup

_COMMANDS = "hqconsole.commands"

main = CommandGroup(
    name="hq",
    help=(
        "Head office on the bus: who has it, who has read it, who has done it, and who has not.\n\n"
        "Everything works with the hub down: it stands in the ledger, and the hub sends it when "
        "it comes up.\n\n"
        "\b\n"
        "Examples:\n"
        "  hq init && hq roster import stores.csv\n"
        "  hq device add S017 till-1 --roles manager     a bundle for storeagent join\n"
        "  hq up                                         broker and hub, in the foreground\n"
        "  hq publish 'Pull lot 2231' --all --kind recall\n"
        "  hq status                                     one line for each directive\n"
        "  hq who 3f2a --state pending                   who has not\n"
    ),
    context_settings={"help_option_names": ["-h", "--help"]},
    sections={
        "Asking stores": {
            "publish": (f"{_COMMANDS}.publish:publish", "Issue a directive to exactly these."),
            "schedule": (f"{_COMMANDS}.rollout:schedule", "Give it another time to go out."),
            "revise": (f"{_COMMANDS}.revise:revise", "Change what no store has heard of."),
            "submit": (f"{_COMMANDS}.approval:submit", "Let a draft go."),
            "approve": (f"{_COMMANDS}.approval:approve", "Let out what somebody else wrote."),
            "deny": (f"{_COMMANDS}.approval:deny", "Say no to it."),
            "pause": (f"{_COMMANDS}.rollout:pause", "Let no more waves of it go."),
            "resume": (f"{_COMMANDS}.rollout:resume", "Let it go on."),
            "stop": (f"{_COMMANDS}.rollout:stop", "Send it to nobody else."),
        },
        "Who has, and who has not": {
            "board": (f"{_COMMANDS}.board:board", "The whole chain on one live screen."),
            "status": (f"{_COMMANDS}.status:status", "How far each directive is."),
            "who": (f"{_COMMANDS}.who:who", "Who has not (or who has)."),
            "why": (f"{_COMMANDS}.why:why", "One store's chain of custody, and what is missing."),
            "cannot": (f"{_COMMANDS}.cannot:cannot", "Why stores cannot, put together."),
            "escalations": (
                f"{_COMMANDS}.escalations:escalations",
                "What is so late that a manager is to know.",
            ),
            "remind": (f"{_COMMANDS}.remind:remind", "Remind those who have not answered."),
            "remove": (f"{_COMMANDS}.remind:remove", "Wait for a store no longer."),
            "cancel": (f"{_COMMANDS}.cancel:cancel", "Withdraw a directive."),
        },
        "The past": {
            "search": (f"{_COMMANDS}.search:search", "Find words in the whole history."),
            "handover": (f"{_COMMANDS}.handover:handover", "A seat, for whoever takes it over."),
            "export": (f"{_COMMANDS}.export:export", "Whole tables, as CSV or JSON Lines."),
        },
        "Who may what": {
            "operators": (f"{_COMMANDS}.operators:operators", "Who may do what here."),
            "kinds": (f"{_COMMANDS}.kinds:kinds", "What is settled for each kind of directive."),
        },
        "What stores say": {
            "replies": (f"{_COMMANDS}.told:replies", "Answers in directives' threads."),
            "alerts": (f"{_COMMANDS}.told:alerts", "What needs action: replenishment, incidents."),
            "reports": (f"{_COMMANDS}.reports:reports", "Tables of figures, and their rows."),
            "tail": (f"{_COMMANDS}.tail:tail", "Follow what arrives, without loss."),
        },
        "The organisation": {
            "roster": (f"{_COMMANDS}.roster:roster", "Import and look at stores and devices."),
            "audience": (f"{_COMMANDS}.audience:audience", "Audiences under a name."),
            "stores": (f"{_COMMANDS}.stores:stores", "Who is online, last seen, behind."),
        },
        "Running it": {
            "init": (f"{_COMMANDS}.init:init", "Make head office's home."),
            "up": (f"{_COMMANDS}.up:up", "Run the embedded broker and the hub together."),
            "hub": (f"{_COMMANDS}.hub:hub", "Run the hub alone, beside a broker of yours."),
            "backup": (f"{_COMMANDS}.backup:backup", "Copy the ledger while it is in use."),
            "restore": (f"{_COMMANDS}.restore:restore", "Put a copy of the ledger back."),
            "archive": (f"{_COMMANDS}.archive:archive", "Finished directives leave the ledger."),
            "quarantine": (f"{_COMMANDS}.troubles:quarantine", "What nobody could use."),
            "incidents": (f"{_COMMANDS}.troubles:incidents", "What an operator should know."),
        },
        "Trust": {
            "device": (f"{_COMMANDS}.device:device", "Let devices in, and shut them out."),
            "key": (f"{_COMMANDS}.key:key", "Head office's own keys: rotate, recover."),
            "tool": (f"{_COMMANDS}.tool:tool", "Programs of yours that listen at the broker."),
            "tls": (f"{_COMMANDS}.tls:tls", "Encrypted links: a CA, and a certificate."),
            "verify": (f"{_COMMANDS}.verify:verify", "Check every signature in the ledger."),
            "evidence": (f"{_COMMANDS}.evidence:evidence", "Prove a directive and its answers."),
            "audit": (f"{_COMMANDS}.audit:audit", "Who did what here."),
        },
        "Try it": {
            "demo": (f"{_COMMANDS}.demo:demo", "See all of it at work, in under a minute."),
        },
    },
)

if __name__ == "__main__":
    main()
