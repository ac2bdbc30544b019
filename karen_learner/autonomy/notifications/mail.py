"""Sends messages as e-mails over SMTP. The only file that imports aiosmtplib."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any

import aiosmtplib
from asyncio_extras import call_in_executor

from karen_learner.autonomy.notifications.addresses import Resolver, checked_addresses, resolve, revealed
from karen_learner.autonomy.notifications.messages import email_of
from karen_learner.errors import DeliveryFailed
from karen_learner.records.notifications import Notification
from karen_learner.settings import EmailTarget


class _NamedContext(ssl.SSLContext):
    """Verifies the certificate against the host's name, although the connection goes to its address."""

    host: str = ""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**kwargs, "server_hostname": self.host})


def _context(host: str) -> ssl.SSLContext:
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    context.host = host
    return context


async def send(
    target: EmailTarget,
    message_id: str,
    group: Sequence[Notification],
    *,
    timeout_s: float,
    resolver: Resolver = resolve,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Send one message. Raises DeliveryFailed, without the texts of the server."""
    mail = email_of(target, message_id, group)
    password = revealed(target.password) if target.password is not None else None
    addresses = await checked_addresses(
        target.host, target.port, allow_private=target.allow_private, resolver=resolver
    )
    context = tls or await call_in_executor(_context, target.host)
    failure = DeliveryFailed("the host cannot be connected to")
    for address in addresses:
        try:
            await aiosmtplib.send(
                mail,
                hostname=address,
                port=target.port,
                username=target.username or None,
                password=password if target.username else None,
                use_tls=target.security == "tls",
                start_tls=target.security == "starttls",
                tls_context=None if target.security == "none" else context,
                local_hostname=socket.gethostname(),
                timeout=timeout_s,
            )
        except (aiosmtplib.SMTPConnectError, OSError) as error:
            failure = DeliveryFailed(f"the host cannot be connected to ({type(error).__name__})")
            continue
        except aiosmtplib.SMTPResponseException as error:
            raise DeliveryFailed(f"SMTP status {error.code}") from None
        except aiosmtplib.SMTPException as error:
            raise DeliveryFailed(type(error).__name__) from None
        return
    raise failure
