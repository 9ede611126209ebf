"""A connection to a home's broker."""

from __future__ import annotations

import asyncio
import logging
import ssl

import aiomqtt

from miloco_edge.hub.settings import MqttSink
from miloco_edge.serve.mqtt_entities import status_topic

log = logging.getLogger(__name__)

_KEEPALIVE_S = 30
"""A broker that says nothing for half as long again is gone."""
_WAITING = 1000
"""Most messages from the broker that wait; more are dropped."""


def client(settings: MqttSink, *, will: bool = True, timeout_s: float = 10.0) -> aiomqtt.Client:
    """A client of the broker, not yet connected; its last will says that the hub is offline.

    Raises OSError where a certificate cannot be read (ssl.SSLError is one).
    """
    user, password = settings.user, settings.password
    return aiomqtt.Client(
        settings.host,
        settings.port,
        username=None if user is None else user.reveal(),
        password=None if password is None else password.reveal(),
        logger=log,
        will=aiomqtt.Will(status_topic(settings), "offline", qos=1, retain=True) if will else None,
        timeout=timeout_s,
        keepalive=_KEEPALIVE_S,
        max_queued_incoming_messages=_WAITING,
        tls_context=_tls(settings) if settings.tls else None,
    )


def try_once(settings: MqttSink, timeout_s: float) -> None:
    """Connect, log in, and leave. Raises OSError that says why that cannot be."""

    async def connect() -> None:
        async with (
            asyncio.timeout(2 * timeout_s),
            client(settings, will=False, timeout_s=timeout_s),
        ):
            pass

    try:
        asyncio.run(connect())
    except aiomqtt.MqttError as error:
        raise OSError(str(error)) from error


def _tls(settings: MqttSink) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca)
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context
