"""What both ends of the gRPC bus agree on beside the messages: bounds, signs of life, names in certificates."""

from __future__ import annotations

from typing import Any

import grpc.aio

END: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]
"""What reading gives once a stream has ended."""
MESSAGE_SLACK_BYTES = 1 << 16
KEEPALIVE_MS, KEEPALIVE_ANSWER_MS = 10_000, 5_000
GATEWAY = "gateway"
"""The first label of the name that a gateway's certificate bears, below the domain."""


def limits_of_both(max_bytes: int) -> list[tuple[str, int]]:
    """Channel arguments for either end: no larger message, and an end that is silently gone is noticed in seconds."""
    return [
        ("grpc.max_receive_message_length", max_bytes + MESSAGE_SLACK_BYTES),
        ("grpc.max_send_message_length", max_bytes + MESSAGE_SLACK_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
        # the answer to a ping has a time limit of its own, a minute unless told, without which the two above do nothing
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_ANSWER_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ]


def gateway_name(domain: str) -> str:
    """The name that subscribers expect in the certificate of a gateway of this domain."""
    return f"{GATEWAY}.{domain}"


def within(name: str, domain: str) -> bool:
    """Whether a certificate's name lies below a domain."""
    return name.endswith(f".{domain}")
