"""How fast the embedded broker carries messages to one store each, and that it stays flat.

Three brokers at once, each with its stores connected: ours with 100, ours with 1,000, and plain
amqtt with 1,000. They are loaded in turns, one at a time. At QoS 1 both the publisher and the
stores speak QoS 1; at QoS 0 the stores' subscriptions stay the same.
"""

from collections.abc import Sequence
from contextlib import ExitStack

from bench.figures import Aim, Figure, Setting, median, paired_ratio
from bench.load import Stores
from bench.processes import embedded_broker, plain_amqtt

_FEW, _MANY = 100, 1_000


def run(setting: Setting) -> Sequence[Figure]:
    """Measure unicast in turns, at QoS 0 and 1."""
    rates: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        sides: dict[str, tuple[Stores, int]] = {}
        for name, start, stores, messages in (
            ("few", embedded_broker, _FEW, setting.pick(6_000, 2_000)),
            ("many", embedded_broker, _MANY, setting.pick(6_000, 2_000)),
            ("plain", plain_amqtt, _MANY, setting.pick(600, 300)),
        ):
            folder = setting.folder / name
            folder.mkdir()
            port, _ = stack.enter_context(start(folder))
            setting.say(f"connecting {stores:,} stores to {name}")
            sides[name] = stack.enter_context(Stores(port, stores)), messages
        for name, (stores_of_side, _) in sides.items():
            stores_of_side.unicast(200, qos=1)  # the first of everything is slower
            rates[name, 0], rates[name, 1] = [], []
        for _ in range(setting.pick(7, 3)):
            for qos in (0, 1):
                for name, (stores_of_side, messages) in sides.items():
                    rates[name, qos].append(stores_of_side.unicast(messages, qos=qos))
    figures = []
    for qos in (0, 1):
        few, many, plain = rates["few", qos], rates["many", qos], rates["plain", qos]
        figures += [
            Figure(
                f"broker.flat.qos{qos}",
                f"unicast at QoS {qos} to 1,000 stores, against 100",
                median(many),
                "/s",
                paired_ratio(many, few),
                Aim("ratio", "at least", 0.8),
                {"at_100_per_second": round(median(few))},
            ),
            Figure(
                f"broker.plain.qos{qos}",
                f"unicast at QoS {qos} to 1,000 stores, against plain amqtt",
                median(many),
                "/s",
                paired_ratio(many, plain),
                Aim("ratio", "at least", 2.5),
                {"plain_per_second": round(median(plain))},
            ),
        ]
    return figures
