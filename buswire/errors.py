"""What can go wrong, as the whole project says it: a cause, and the hint that mends it."""


class BusError(Exception):
    """Base of every deliberate error of storebus; each package has one subclass of its own.

    Attributes:
        hint: What the reader can do about it, ideally the command to run; None where nothing helps.
        exit_code: What a command line exits with when this error reaches it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep the cause and the hint apart, so that a terminal can show both."""
        super().__init__(message)
        self.hint = hint


class WireError(BusError):
    """A message, topic, name or record that does not fit the contract."""
