"""The embedded MQTT 3.1.1 broker: for a chain on one machine, and safe for strangers' clients.

Start it from Python with `broker.server.EmbeddedBroker`, from a shell with `storebus-broker`.
Nothing outside this package sees amqtt, on which `broker.engine` is built.
"""
