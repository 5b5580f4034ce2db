"""The process in which pact's verifier runs: an order on standard input, results in the file that it names."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from pact import Verifier

from rdv.backends.contracts_pact import Order


def main() -> None:
    """Verify once; interactions that fail are results, not errors."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    verifier = Verifier(order.provider, urlsplit(order.url).hostname or "localhost")
    verifier.add_transport(url=order.url).add_source(Path(order.folder))
    verifier.set_request_timeout(int(order.answer_s * 1000))
    try:
        verifier.verify()
    except RuntimeError as error:  # how it says that something did not match, too
        print(error)
    Path(order.results).write_bytes(msgspec.json.encode(verifier.results))


if __name__ == "__main__":
    main()
