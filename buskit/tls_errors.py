"""What goes wrong with TLS, in words that help the person who reads them. No I/O.

Owns the meaning of OpenSSL's reasons. Must not know when they come up.
"""

import contextlib
import ipaddress
import ssl
import time
from collections.abc import Callable
from typing import Any

from buskit.errors import KitError
from buskit.link_settings import TlsSettings

_MOST_NAMES = 4

# Of OpenSSL's x509_vfy.h (X509_V_ERR_...); their meaning is in X509_STORE_CTX_get_error(3).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = (62, 63, 64)
_UNKNOWN_SIGNER = (2, 7, 18, 19, 20, 21, 24, 27, 28)
_WRONG_PURPOSE = 26
_TOO_WEAK = (66, 67, 68)

_OURS = "the broker does not accept our certificate"
_NO_TLS = (
    "what answers there does not speak TLS; mqtt:// and ws:// are for plain text, "
    "and encrypted MQTT usually has port 8883"
)
_NO_VERSION = "the broker has neither TLS 1.2 nor 1.3"
_WANTS_CERTIFICATE = "the broker wants a certificate from us"
_CHANGED = "what arrives was changed on its way, or is no TLS"
_CLOSED = "the broker closed the connection"

_REASONS = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "PACKET_LENGTH_TOO_LONG": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "UNKNOWN_PROTOCOL": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _WANTS_CERTIFICATE,
    "TLSV1_ALERT_UNKNOWN_CA": f"{_OURS}: it does not trust the CA that signed it",
    "SSLV3_ALERT_BAD_CERTIFICATE": _OURS,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _OURS,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": f"{_OURS}: it is not of a kind or for a use it knows",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": f"{_OURS}: by its clock it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": f"{_OURS}: it was revoked",
    "TLSV1_ALERT_ACCESS_DENIED": _OURS,
    "TLSV1_UNRECOGNIZED_NAME": "the broker does not know itself by that name",
    "BAD_CERTIFICATE": "the broker's certificate cannot be read",
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate cannot be trusted",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": _CHANGED,
    "SSLV3_ALERT_BAD_RECORD_MAC": "what we sent was changed on its way",
    "UNEXPECTED_MESSAGE": _CHANGED,
    "BAD_RECORD_TYPE": _CHANGED,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
    "TLSV1_ALERT_INTERNAL_ERROR": "the broker has an error of its own with TLS",
    "DH_KEY_TOO_SMALL": "the broker's keys are too weak",
    "EE_KEY_TOO_SMALL": "the broker's keys are too weak",
}


class TlsError(KitError):
    """An encrypted connection cannot be made, or has broken."""


class CertificateRefused(TlsError):  # noqa: N818 - it says what we did
    """The broker's certificate does not fit: its name or its dates. A second look can say more.

    Attributes:
        code: Why, by OpenSSL's number.
    """

    def __init__(self, message: str, code: int) -> None:
        """Keep the reason."""
        super().__init__(message)
        self.code = code


class CertificateShown(TlsError):  # noqa: N818 - it says what the peer did
    """The broker's certificate was refused; this says what is in it."""


def explained(
    error: ssl.SSLError,
    host: str,
    settings: TlsSettings,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> TlsError:
    """Put a failure into words.

    Args:
        error: What OpenSSL said.
        host: The name or IP address in the URL.
        settings: Whom we trust, and what we show.
        wall_clock: What this machine takes for the time.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, host, settings, wall_clock)
    reason = error.reason or ""
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        # With TLS 1.2 this is also how a server says that it wants a certificate (RFC 5246, 7.4.6).
        words = "the broker and we have no encryption in common"
        if settings.certificate_file is None:
            words += ", or it wants a certificate from us"
        return TlsError(words)
    return TlsError(_REASONS.get(reason) or f"TLS failed: {_plain(error)}")


def closed_early(*, heard: bool, is_open: bool, shows_certificate: bool) -> str:
    """Say what it probably means that a peer closed the connection and has not said why.

    Many servers do not say why they refuse a certificate, those on Python's asyncio among them.

    Args:
        heard: Whether it has said anything at all.
        is_open: Whether the handshake was complete on our side.
        shows_certificate: Whether we have shown a certificate.
    """
    if not heard:
        return "it closed the connection during the TLS handshake: does it speak TLS there?"
    when = "after" if is_open else "during"
    why = "it may not accept our certificate" if shows_certificate else "it may want a certificate"
    who = "" if shows_certificate else " from us"
    return f"the broker closed the connection {when} the TLS handshake: {why}{who}"


def _distrust(
    error: ssl.SSLCertVerificationError,
    host: str,
    settings: TlsSettings,
    wall_clock: Callable[[], float],
) -> TlsError:
    code = error.verify_code
    if code in _WRONG_NAME:
        return CertificateRefused(f"the broker's certificate is not for {host}", code)
    if code in (_EXPIRED, _NOT_YET_VALID):
        state = "has expired" if code == _EXPIRED else "is not valid yet"
        return CertificateRefused(f"the broker's certificate {state}; {_clock(wall_clock())}", code)
    if code in _UNKNOWN_SIGNER:
        by = "any CA that this machine trusts"
        if settings.ca_file is not None:
            by = f"the CA in {settings.ca_file}"
        return TlsError(f"the broker's certificate is not signed by {by}")
    if code == _WRONG_PURPOSE:
        return TlsError("the broker's certificate is not one for a server")
    if code in _TOO_WEAK:
        return TlsError("the broker's certificate has a key or signature that is too weak")
    return TlsError(f"the broker's certificate cannot be trusted: {error.verify_message}")


def refusal(
    refused: CertificateRefused,
    host: str,
    certificate: dict[str, Any],
    *,
    wall_clock: Callable[[], float] = time.time,
) -> CertificateShown:
    """Put a refusal into words, now that the certificate can be seen.

    Args:
        refused: The refusal.
        host: The name or IP address in the URL.
        certificate: As `ssl.SSLObject.getpeercert` returns it.
        wall_clock: What this machine takes for the time.
    """
    if refused.code in _WRONG_NAME:
        names = _names(certificate)
        whose = f"for {_listed(names)}, not for {host}" if names else f"for no host, nor for {host}"
        return CertificateShown(f"the broker's certificate is {whose}")
    key, words = "notAfter", "has expired, on"
    if refused.code == _NOT_YET_VALID:
        key, words = "notBefore", "is not valid before"
    now = wall_clock()
    try:
        at = ssl.cert_time_to_seconds(certificate[key])
    except (KeyError, ValueError):
        return CertificateShown(str(refused))
    if (at > now) != (key == "notBefore"):  # it is one of those above it that does not fit
        return CertificateShown(f"{refused} (it is about one that signed it)")
    return CertificateShown(f"the broker's certificate {words} {_moment(at)}; {_clock(now)}")


def _names(certificate: dict[str, Any]) -> list[str]:
    found = []
    for kind, name in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            with contextlib.suppress(ValueError):
                found.append(str(ipaddress.ip_address(name.strip())))
        elif kind == "DNS":
            found.append(name)
    return found


def _listed(names: list[str]) -> str:
    if len(names) > _MOST_NAMES:
        names = [*names[: _MOST_NAMES - 1], f"{len(names) - _MOST_NAMES + 1} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _clock(now_at: float) -> str:
    return f"by this machine's clock, which may be wrong, it is {_moment(now_at)}"


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
    except (OverflowError, ValueError, OSError):
        return "a time that cannot be"


def _plain(error: ssl.SSLError) -> str:
    if error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__
