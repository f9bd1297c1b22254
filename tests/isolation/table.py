r"""What is right: the page to review. Written by hand from the contract, never from the policy.

`~` stands for the root `storebus/v1`. Where a topic has a character that would not be seen, it is
written as in Python (`\u0308`), and a blank as `\s`.

The organisation: S1 and S2 are in region east, W1 in west, Zuerich (with one letter for its second
and third) in a region called hq, C1 is closed. The columns:

    till    S1.till, manager and clerk      S2      S2.till, manager     join  join/hq, a bundle
    office  S1.office, warehouse            W1      W1.till, manager     tool  tool/screen, which
    kiosk   S1.hq, a role called hq         C1      C1.till, manager           reads ~/heads/+,
                                            Zu      Z*rich.till, clerk   ~/down/region/east/any
                                                                         hub   hub/h1
What each may do with a topic:

    s  subscribe to exactly it, and so hear it     r  leave a retained message on it
    h  hear it, by a filter with wildcards         w  have it as the topic of its will
    p  publish to it                               v  the same with a retained will
    ?  publish or not, as the engine likes: a well-formed address at which nobody is
    .  none of that
"""

import re
from collections.abc import Iterator

ROOT = "storebus/v1"

COLUMNS = ("till", "office", "kiosk", "S2", "W1", "C1", "Zu", "join", "tool", "hub")

IDENTITIES = {
    "till": "S1.till",
    "office": "S1.office",
    "kiosk": "S1.hq",
    "S2": "S2.till",
    "W1": "W1.till",
    "C1": "C1.till",
    "Zu": "Z\u00fcrich.till",
    "join": "join/hq",
    "tool": "tool/screen",
    "hub": "hub/h1",
}

TOPICS = r"""
topic                          till office kiosk  S2  W1  C1  Zu join tool hub
~/hq                              s     s     s   s   s   s   s    .    . sprwv
~/to/S1/till                      s     .     .   .   .   .   .    .    . p
~/to/S1/office                    .     s     .   .   .   .   .    .    . p
~/to/S1/hq                        .     .     s   .   .   .   .    .    . p
~/to/S2/till                      .     .     .   s   .   .   .    .    . p
~/to/W1/till                      .     .     .   .   s   .   .    .    . p
~/to/C1/till                      .     .     .   .   .   s   .    .    . p
~/to/Z\u00fcrich/till             .     .     .   .   .   .   s    .    . p
~/to/S1/gone                      .     .     .   .   .   .   .    .    . p
~/from/S1/till                   pw     .     .   .   .   .   .    .    . h
~/from/S1/office                  .    pw     .   .   .   .   .    .    . h
~/from/S1/hq                      .     .    pw   .   .   .   .    .    . h
~/from/S2/till                    .     .     .  pw   .   .   .    .    . h
~/from/W1/till                    .     .     .   .  pw   .   .    .    . h
~/from/C1/till                    .     .     .   .   .  pw   .    .    . h
~/from/Z\u00fcrich/till           .     .     .   .   .   .  pw    .    . h
~/from/S1/gone                    .     .     .   .   .   .   .    .    . h
~/heads/east                      s     s     s   s   .   .   .    .    s p
~/heads/west                      .     .     .   .   s   .   .    .    s p
~/heads/hq                        .     .     .   .   .   .   s    .    s p
~/heads/north                     .     .     .   .   .   .   .    .    s p
~/down/all/any                    s     s     s   s   s   .   s    .    . p
~/down/all/manager                s     .     .   s   s   .   .    .    . p
~/down/all/clerk                  s     .     .   .   .   .   s    .    . p
~/down/all/warehouse              .     s     .   .   .   .   .    .    . p
~/down/all/hq                     .     .     s   .   .   .   .    .    . p
~/down/all/delivery               .     .     .   .   .   .   .    .    . p
~/down/region/east/any            s     s     s   s   .   .   .    .    s p
~/down/region/east/manager        s     .     .   s   .   .   .    .    . p
~/down/region/east/clerk          s     .     .   .   .   .   .    .    . p
~/down/region/east/warehouse      .     s     .   .   .   .   .    .    . p
~/down/region/east/hq             .     .     s   .   .   .   .    .    . p
~/down/region/west/any            .     .     .   .   s   .   .    .    . p
~/down/region/west/manager        .     .     .   .   s   .   .    .    . p
~/down/region/west/clerk          .     .     .   .   .   .   .    .    . p
~/down/region/hq/any              .     .     .   .   .   .   s    .    . p
~/down/region/hq/clerk            .     .     .   .   .   .   s    .    . p
~/down/region/north/any           .     .     .   .   .   .   .    .    . p
~/down/store/S1/any               s     s     s   .   .   .   .    .    . p
~/down/store/S1/manager           s     .     .   .   .   .   .    .    . p
~/down/store/S1/clerk             s     .     .   .   .   .   .    .    . p
~/down/store/S1/warehouse         .     s     .   .   .   .   .    .    . p
~/down/store/S1/hq                .     .     s   .   .   .   .    .    . p
~/down/store/S2/any               .     .     .   s   .   .   .    .    . p
~/down/store/S2/manager           .     .     .   s   .   .   .    .    . p
~/down/store/W1/any               .     .     .   .   s   .   .    .    . p
~/down/store/W1/manager           .     .     .   .   s   .   .    .    . p
~/down/store/C1/any               .     .     .   .   .   .   .    .    . p
~/down/store/C1/manager           .     .     .   .   .   .   .    .    . p
~/down/store/Z\u00fcrich/any      .     .     .   .   .   .   s    .    . p
~/down/store/Z\u00fcrich/clerk    .     .     .   .   .   .   s    .    . p
~/join/hq                         .     .     .   .   .   .   .   sp    . hp
~/join/b1                         .     .     .   .   .   .   .    .    . hp
"""
"""The tree. Everything below is what looks like it and is not."""

LOOK_ALIKES = r"""
topic                          till office kiosk  S2  W1  C1  Zu join tool hub
~                                 .     .     .   .   .   .   .    .    . .
~/                                .     .     .   .   .   .   .    .    . .
/~/hq                             .     .     .   .   .   .   .    .    . .
~/hq/                             .     .     .   .   .   .   .    .    . .
~//hq                             .     .     .   .   .   .   .    .    . .
~/HQ                              .     .     .   .   .   .   .    .    . .
~/hq\s                            .     .     .   .   .   .   .    .    . .
\ufeff~/hq                        .     .     .   .   .   .   .    .    . .
hq                                .     .     .   .   .   .   .    .    . .
storebus/hq                       .     .     .   .   .   .   .    .    . .
storebus/V1/hq                    .     .     .   .   .   .   .    .    . .
storebus/v2/hq                    .     .     .   .   .   .   .    .    . .
other/v1/to/S1/till               .     .     .   .   .   .   .    .    . .
to/S1/till                        .     .     .   .   .   .   .    .    . .
from/S1/till                      .     .     .   .   .   .   .    .    . .
/from/S1/till                     .     .     .   .   .   .   .    .    . .
~/to                              .     .     .   .   .   .   .    .    . .
~/to/S1                           .     .     .   .   .   .   .    .    . .
~/to/S1/                          .     .     .   .   .   .   .    .    . .
~/to//till                        .     .     .   .   .   .   .    .    . .
~/to/S1/till/                     .     .     .   .   .   .   .    .    . .
~/to/S1/till/x                    .     .     .   .   .   .   .    .    . .
~/to/S1//till                     .     .     .   .   .   .   .    .    . .
~/to/S1.till                      .     .     .   .   .   .   .    .    . .
~/to/S1/.till                     .     .     .   .   .   .   .    .    . ?
~/to/s1/till                      .     .     .   .   .   .   .    .    . ?
~/to/S1/Till                      .     .     .   .   .   .   .    .    . ?
~/TO/S1/till                      .     .     .   .   .   .   .    .    . .
~/to/S1\s/till                    .     .     .   .   .   .   .    .    . ?
~/to/S1/till\s                    .     .     .   .   .   .   .    .    . ?
~/to/S1\u200b/till                .     .     .   .   .   .   .    .    . ?
~/to/\u04051/till                 .     .     .   .   .   .   .    .    . ?
~/to/\uff33\uff11/till            .     .     .   .   .   .   .    .    . ?
~/to/Zu\u0308rich/till            .     .     .   .   .   .   .    .    . ?
~/to/Zurich/till                  .     .     .   .   .   .   .    .    . ?
~/from                            .     .     .   .   .   .   .    .    . .
~/from/S1                         .     .     .   .   .   .   .    .    . .
~/from/S1/                        .     .     .   .   .   .   .    .    . .
~/from//till                      .     .     .   .   .   .   .    .    . .
~/from/S1/till/                   .     .     .   .   .   .   .    .    . .
~/from/S1/till/x                  .     .     .   .   .   .   .    .    . .
~/from/S1.till                    .     .     .   .   .   .   .    .    . .
~/from/s1/till                    .     .     .   .   .   .   .    .    . .
~/from/S1/TILL                    .     .     .   .   .   .   .    .    . .
~/From/S1/till                    .     .     .   .   .   .   .    .    . .
~/from/S1/till\s                  .     .     .   .   .   .   .    .    . .
~/from/\u04051/till               .     .     .   .   .   .   .    .    . .
~/from/Zu\u0308rich/till          .     .     .   .   .   .   .    .    . .
~/heads                           .     .     .   .   .   .   .    .    . .
~/heads/                          .     .     .   .   .   .   .    .    s .
~/heads/East                      .     .     .   .   .   .   .    .    s ?
~/heads/east/                     .     .     .   .   .   .   .    .    . .
~/heads/east/any                  .     .     .   .   .   .   .    .    . .
~/down                            .     .     .   .   .   .   .    .    . .
~/down/all                        .     .     .   .   .   .   .    .    . .
~/down/all/                       .     .     .   .   .   .   .    .    . .
~/down/all/any/                   .     .     .   .   .   .   .    .    . .
~/down/All/any                    .     .     .   .   .   .   .    .    . .
~/down/all/Manager                .     .     .   .   .   .   .    .    . ?
~/down/region/east                .     .     .   .   .   .   .    .    . .
~/down/region//any                .     .     .   .   .   .   .    .    . .
~/down/region/east/any/           .     .     .   .   .   .   .    .    . .
~/down/store/S1                   .     .     .   .   .   .   .    .    . .
~/down/store//any                 .     .     .   .   .   .   .    .    . .
~/down/store/s1/any               .     .     .   .   .   .   .    .    . ?
~/down/store/Zu\u0308rich/any     .     .     .   .   .   .   .    .    . ?
~/down/east/any                   .     .     .   .   .   .   .    .    . .
~/join                            .     .     .   .   .   .   .    .    . .
~/join/                           .     .     .   .   .   .   .    .    . .
~/join/hq/                        .     .     .   .   .   .   .    .    . .
~/join/HQ                         .     .     .   .   .   .   .    .    . h?
~/audit                           .     .     .   .   .   .   .    .    . .
$SYS                              .     .     .   .   .   .   .    .    . .
$SYS/broker/version               .     .     .   .   .   .   .    .    . .
$SYS/broker/clients/connected     .     .     .   .   .   .   .    .    . .
$~/hq                             .     .     .   .   .   .   .    .    . .
$share/g/~/to/S1/till             .     .     .   .   .   .   .    .    . .
$share/g/~/from/S1/till           .     .     .   .   .   .   .    .    . .
$share/g/~/hq                     .     .     .   .   .   .   .    .    . .
$queue/~/to/S1/till               .     .     .   .   .   .   .    .    . .
"""

WILDCARDS = r"""
filter                         till office kiosk  S2  W1  C1  Zu join tool hub
~/from/+/+                        .     .     .   .   .   .   .    .    . s
~/join/+                          .     .     .   .   .   .   .    .    . s
~/heads/+                         .     .     .   .   .   .   .    .    s .
#                                 .     .     .   .   .   .   .    .    . .
/#                                .     .     .   .   .   .   .    .    . .
+                                 .     .     .   .   .   .   .    .    . .
+/#                               .     .     .   .   .   .   .    .    . .
+/+                               .     .     .   .   .   .   .    .    . .
+/+/#                             .     .     .   .   .   .   .    .    . .
+/+/+                             .     .     .   .   .   .   .    .    . .
+/+/+/+/+                         .     .     .   .   .   .   .    .    . .
+/v1/hq                           .     .     .   .   .   .   .    .    . .
storebus/#                        .     .     .   .   .   .   .    .    . .
storebus/+/hq                     .     .     .   .   .   .   .    .    . .
storebus/+/to/S1/till             .     .     .   .   .   .   .    .    . .
~/#                               .     .     .   .   .   .   .    .    . .
~/+                               .     .     .   .   .   .   .    .    . .
~/+/#                             .     .     .   .   .   .   .    .    . .
~/+/+/+                           .     .     .   .   .   .   .    .    . .
~/+/S1/till                       .     .     .   .   .   .   .    .    . .
~/hq/#                            .     .     .   .   .   .   .    .    . .
~/hq/+                            .     .     .   .   .   .   .    .    . .
~/to/#                            .     .     .   .   .   .   .    .    . .
~/to/+/+                          .     .     .   .   .   .   .    .    . .
~/to/+/till                       .     .     .   .   .   .   .    .    . .
~/to/S1/+                         .     .     .   .   .   .   .    .    . .
~/to/S1/#                         .     .     .   .   .   .   .    .    . .
~/to/S1/till/#                    .     .     .   .   .   .   .    .    . .
~/to/S1/till/+                    .     .     .   .   .   .   .    .    . .
~/from/#                          .     .     .   .   .   .   .    .    . .
~/from/+/#                        .     .     .   .   .   .   .    .    . .
~/from/+/till                     .     .     .   .   .   .   .    .    . .
~/from/S1/+                       .     .     .   .   .   .   .    .    . .
~/from/S1/#                       .     .     .   .   .   .   .    .    . .
~/from/S1/till/#                  .     .     .   .   .   .   .    .    . .
~/heads/#                         .     .     .   .   .   .   .    .    . .
~/heads/+/+                       .     .     .   .   .   .   .    .    . .
~/heads/east/#                    .     .     .   .   .   .   .    .    . .
~/down/#                          .     .     .   .   .   .   .    .    . .
~/down/+/+                        .     .     .   .   .   .   .    .    . .
~/down/all/#                      .     .     .   .   .   .   .    .    . .
~/down/all/+                      .     .     .   .   .   .   .    .    . .
~/down/+/any                      .     .     .   .   .   .   .    .    . .
~/down/region/#                   .     .     .   .   .   .   .    .    . .
~/down/region/+/any               .     .     .   .   .   .   .    .    . .
~/down/region/+/manager           .     .     .   .   .   .   .    .    . .
~/down/region/east/+              .     .     .   .   .   .   .    .    . .
~/down/region/east/#              .     .     .   .   .   .   .    .    . .
~/down/region/east/any/#          .     .     .   .   .   .   .    .    . .
~/down/store/#                    .     .     .   .   .   .   .    .    . .
~/down/store/S1/+                 .     .     .   .   .   .   .    .    . .
~/down/store/S1/#                 .     .     .   .   .   .   .    .    . .
~/down/store/+/manager            .     .     .   .   .   .   .    .    . .
~/down/+/S1/any                   .     .     .   .   .   .   .    .    . .
~/join/#                          .     .     .   .   .   .   .    .    . .
~/join/hq/#                       .     .     .   .   .   .   .    .    . .
~/+/hq                            .     .     .   .   .   .   .    .    . .
$SYS/#                            .     .     .   .   .   .   .    .    . .
$SYS/+                            .     .     .   .   .   .   .    .    . .
$SYS/broker/#                     .     .     .   .   .   .   .    .    . .
$share/g/#                        .     .     .   .   .   .   .    .    . .
$share/g/~/#                      .     .     .   .   .   .   .    .    . .
$share/g/~/to/+/+                 .     .     .   .   .   .   .    .    . .
$share/g/~/from/+/+               .     .     .   .   .   .   .    .    . .
$share/+/~/hq                     .     .     .   .   .   .   .    .    . .
$queue/~/#                        .     .     .   .   .   .   .    .    . .
$exclusive/~/hq                   .     .     .   .   .   .   .    .    . .
"""

IMPOSSIBLE_TOPICS = (
    "",
    "#",
    "+",
    "~/#",
    "~/hq/#",
    "~/to/+/till",
    "~/from/S1/+",
    "~/from/+/till",
    "~/from/S1/till#",
    "~/to/S1/till\0",
    "~/from/S1/till" + "/" * 60_000,
    "~/from/S1/till" + "x" * 60_000,
    "/".join(["~/to/S1/till"] * 2_800),
)
"""What nobody may publish to or have as the topic of a will; closing is an answer, too."""

IMPOSSIBLE_FILTERS = (
    "",
    "~/to/S1/ti#",
    "~/#/till",
    "~/to/S1+/till",
    "~/to/+S1/till",
    "##",
    "++",
    "~/hq#",
    "~/hq\0",
    "~/to/S1/till" + "/" * 60_000,
    "~/to/S1/till" + "/+" * 10_000 + "/#",
    "~/" + "x" * 60_000,
)
"""What nobody may subscribe to; closing the connection is an answer."""

# -- who never gets in: CONNACK 4 or 5, nothing of what comes behind CONNECT has any effect --

STRANGERS = r"""
who                                             client id         user name      password of
nobody                                          ""                -              -
nobody, with a client id of its own             visitor           -              -
nobody, with a device's client id               S1.till           -              -
nobody, with a hub's client id                  hub/h1/run        -              -
nobody, with the hub's client id in use         hub/h1/hub        -              -
a user name and nothing else                    S1.till           S1.till        -
an empty password                               S1.till           S1.till        ""
a wrong password, a device's client id          S1.till           S1.till        wrong
a wrong password, the hub's client id           hub/h1/run        hub/h1         wrong
a wrong password, a tool's client id            tool/screen       tool/screen    wrong
a wrong password, a bundle's client id          join/hq           join/hq        wrong
the hash for a password                         S1.till           S1.till        hash:S1.till
the password of a device of the same store      S1.till           S1.till        S1.office
the password of a device of another store       S1.till           S1.till        S2.till
the password of the hub                         S1.till           S1.till        hub/h1
the password of a bundle                        S1.till           S1.till        join/hq
right, with the client id of its own store      S1.office         S1.till        S1.till
right, with the client id of another store      S2.till           S1.till        S1.till
right, with the client id of the hub            hub/h1            S1.till        S1.till
right, with the client id of the hub's run      hub/h1/hub        S1.till        S1.till
right, with the client id of a tool             tool/screen       S1.till        S1.till
right, with the client id of a bundle           join/hq           S1.till        S1.till
right, with no client id                        ""                S1.till        S1.till
right, with a run after its client id           S1.till/run       S1.till        S1.till
right, with its client id in another case       s1.till           S1.till        S1.till
right, with a blank after its client id         S1.till\s         S1.till        S1.till
right, its user name in another case            s1.till           s1.till        S1.till
right, a blank after its user name              S1.till           S1.till\s      S1.till
right, its name in another normal form          Zu\u0308rich.till Zu\u0308rich.till Z\u00fcrich.till
right, with a cyrillic letter                   \u04051.till      \u04051.till   S1.till
right, a store without its device               S1                S1             S1.till
right, its topic for a name                     S1/till           S1/till        S1.till
a device that was never there                   S9.till           S9.till        S9.till
a device that was revoked                       S1.gone           S1.gone        S1.gone
a token from before the rotation                S2.new            S2.new         old
the hub, without a run                          hub/h1            hub/h1         hub/h1
the hub, with an empty run                      hub/h1/           hub/h1         hub/h1
the hub, with the run of another hub            hub/h2/run        hub/h1         hub/h1
the hub, with two runs                          hub/h1/a/b        hub/h1         hub/h1
another hub                                     hub/h2/run        hub/h2         hub/h1
a hub without a name                            hub//run          hub/           hub/h1
a device's word as a hub                        hub/S1.till/run   hub/S1.till    S1.till
a tool with another's client id                 tool/auditor      tool/screen    tool/screen
a tool without its prefix                       screen            screen         tool/screen
a bundle as the device it is for                S1.till           join/hq        join/hq
a bundle that was never given out               join/b9           join/b9        join/hq
a bundle without its prefix                     hq                hq             join/hq
"""

CHANGES = r"""
who    before             after              loses                        may now
MV.t   east manager,clerk west manager,clerk ~/heads/east                 ~/heads/west
                                             ~/down/region/east/any       ~/down/region/west/any
                                             ~/down/region/east/manager   ~/down/region/west/manager
                                             ~/down/region/east/clerk     ~/down/region/west/clerk
RL.t   east manager,clerk east manager       ~/down/all/clerk
                                             ~/down/region/east/clerk
                                             ~/down/store/RL/clerk
RX.t   east manager       east clerk         ~/down/all/manager           ~/down/all/clerk
                                             ~/down/region/east/manager   ~/down/region/east/clerk
                                             ~/down/store/RX/manager      ~/down/store/RX/clerk
RG.t   east manager       east manager,clerk                              ~/down/all/clerk
                                                                          ~/down/region/east/clerk
                                                                          ~/down/store/RG/clerk
CL.t   east manager       closed manager     ~/heads/east
                                             ~/down/all/any
                                             ~/down/all/manager
                                             ~/down/region/east/any
                                             ~/down/region/east/manager
                                             ~/down/store/CL/any
                                             ~/down/store/CL/manager
OP.t   closed manager     west manager                                    ~/heads/west
                                                                          ~/down/all/any
                                                                          ~/down/all/manager
                                                                          ~/down/region/west/any
                                                                          ~/down/region/west/manager
                                                                          ~/down/store/OP/any
                                                                          ~/down/store/OP/manager
"""
"""What the roster does to a device that is connected (and to its sibling `.u`, which is away with
a session): loses at once, may from now on when it asks. Everything else stays as it was."""

TOOL_CHANGES = r"""
who          reads before       reads after          loses                may now
tool/wide    ~/down/all/+ ~/hq  ~/hq                 ~/down/all/+
tool/moved   ~/heads/east ~/hq  ~/heads/west ~/hq    ~/heads/east         ~/heads/west
tool/grows   ~/hq               ~/hq ~/down/all/any                       ~/down/all/any
"""
"""The same for tools: what they subscribe to is what they may read before."""

BEFORE = r"""
device   hears, as long as nothing changes
MV.t     ~/hq ~/to/MV/t ~/heads/east ~/down/all/any ~/down/all/manager ~/down/all/clerk
         ~/down/region/east/any ~/down/region/east/manager ~/down/region/east/clerk
         ~/down/store/MV/any ~/down/store/MV/manager ~/down/store/MV/clerk
RL.t     ~/hq ~/to/RL/t ~/heads/east ~/down/all/any ~/down/all/manager ~/down/all/clerk
         ~/down/region/east/any ~/down/region/east/manager ~/down/region/east/clerk
         ~/down/store/RL/any ~/down/store/RL/manager ~/down/store/RL/clerk
RX.t     ~/hq ~/to/RX/t ~/heads/east ~/down/all/any ~/down/all/manager
         ~/down/region/east/any ~/down/region/east/manager
         ~/down/store/RX/any ~/down/store/RX/manager
RG.t     ~/hq ~/to/RG/t ~/heads/east ~/down/all/any ~/down/all/manager
         ~/down/region/east/any ~/down/region/east/manager
         ~/down/store/RG/any ~/down/store/RG/manager
CL.t     ~/hq ~/to/CL/t ~/heads/east ~/down/all/any ~/down/all/manager
         ~/down/region/east/any ~/down/region/east/manager
         ~/down/store/CL/any ~/down/store/CL/manager
OP.t     ~/hq ~/to/OP/t
"""

ENDS = r"""
who         what changes                           its connection   its old word   its new word
RV.t        it is revoked                          ended            refused        -
RO.t        its token is replaced                  ended            refused        let in
OV.t        a second token is added                stays            let in         let in
tool/gone   the tool is taken away                 ended            refused        -
tool/turn   the tool's token is replaced           ended            refused        let in
join/used   the bundle is withdrawn                ended            refused        -
hub/old     the hub is taken away                  ended            refused        -
hub/turn    the hub's token is replaced            ended            refused        let in
"""


def unescape(word: str) -> str:
    """Read a word of a table."""
    word = word.replace("~", ROOT).replace("\\s", " ")
    return re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), word)


def rights(page: str) -> dict[str, dict[str, str]]:
    """Read a page with the usual columns: topic to column to letters."""
    head, *rows = page.strip().splitlines()
    columns = head.split()[1:]
    assert tuple(columns) == COLUMNS
    read: dict[str, dict[str, str]] = {}
    for row in rows:
        name, *cells = row.split()
        assert len(cells) == len(columns), row
        topic = unescape(name)
        assert topic not in read, row
        read[topic] = dict(zip(columns, cells, strict=True))
    return read


def strangers() -> Iterator[tuple[str, str, str | None, str | None]]:
    """Read the page of strangers: who, client id, user name, whose password."""
    for row in STRANGERS.strip().splitlines()[1:]:
        who, *cells = re.split(r"\s{2,}", row.strip(), maxsplit=1)
        client_id, user, password = (
            None if cell == "-" else "" if cell == '""' else unescape(cell)
            for cell in cells[0].split()
        )
        yield who, client_id or "", user, password


def cells(page: str) -> Iterator[list[str]]:
    """Read a page by the places of its columns; an empty first cell goes on with the row above."""
    head, *rows = page.strip("\n").splitlines()
    starts = [found.start() for found in re.finditer(r"(?:^|(?<=\s\s))\S", head)]
    row: list[str] = []
    for line in rows:
        parts = [
            line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)
        ]
        if parts[0]:
            if row:
                yield row
            row = parts
        else:
            row = [f"{old} {new}".strip() for old, new in zip(row, parts, strict=True)]
    yield row
