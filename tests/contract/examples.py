"""Keys and signatures of the examples in `topics.md`; run as a module it signs them anew."""

import re

from buswire.signing import SigningKey, message_bytes, signature_text
from tests.contract.markdown import ROOT

HQ = SigningKey(bytes(range(0x20)))
DEVICE = SigningKey(bytes(range(0x20, 0x40)))
INVITE = SigningKey(bytes(range(0x40, 0x60)))
KEYS = {key.id: key.public for key in (HQ, DEVICE, INVITE)}

_EXAMPLE = re.compile(
    r"^On `(?P<topic>[^`]+)`:\n\n```\nstorebus/1 [^\n]*\n(?P<text>.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)


def speaker(topic: str, text: str) -> SigningKey:
    """Whose key signs what is said on this topic."""
    if "/join/" in topic:
        return INVITE if '"kind": "join"' in text else HQ
    return DEVICE if "/from/" in topic else HQ


def signed(topic: str, text: str) -> str:
    """The payload with this text on that topic."""
    key = speaker(topic, text)
    signature = signature_text(key.sign(message_bytes(topic, text.encode())))
    return f"storebus/1 {key.id} {signature}\n{text}"


def sign_again() -> None:
    """Renew every header line of the page."""

    def renewed(found: re.Match[str]) -> str:
        return f"On `{found['topic']}`:\n\n```\n{signed(found['topic'], found['text'])}\n```"

    page = ROOT / "topics.md"
    page.write_text(_EXAMPLE.sub(renewed, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    sign_again()
