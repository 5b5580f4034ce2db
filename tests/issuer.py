"""Who signs id_tokens as GitLab would: a key of its own, its public half on a loopback address."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def encoded(data: bytes) -> str:
    """As tokens carry bytes."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """A signer of id_tokens, up until `close`."""

    def __init__(self, folder: Path) -> None:
        self._key = folder / "issuer.pem"
        subprocess.run(["openssl", "genrsa", "-out", str(self._key), "2048"], check=True, capture_output=True)
        said = subprocess.run(
            ["openssl", "rsa", "-in", str(self._key), "-noout", "-modulus"], check=True, capture_output=True, text=True
        ).stdout
        modulus = bytes.fromhex(said.strip().partition("=")[2])
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "e": "AQAB", "n": encoded(modulus)}
        keys = json.dumps({"keys": [key]}).encode()

        class Keys(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(keys)))
                self.end_headers()
                self.wfile.write(keys)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.jwks_url = f"{self.url}/oauth/discovery/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, name="issuer")
        self._thread.start()

    def token(self, project: str, expires_s: float = 3600.0, **claims: str) -> str:
        """An id_token for a job of a project; a job of a branch unless claims say otherwise."""
        now = int(time.time())
        told: dict[str, Any] = {
            "iss": self.url, "aud": "rdv", "sub": f"project_path:{project}", "project_path": project,
            "ref": "develop", "ref_type": "branch", "ref_protected": "true", "iat": now - 60, "nbf": now - 60,
            "exp": now + int(expires_s),
        }  # fmt: skip
        head = encoded(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "one"}).encode())
        body = encoded(json.dumps(told | claims).encode())
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)], input=f"{head}.{body}".encode(), check=True,
            capture_output=True,
        ).stdout  # fmt: skip
        return f"{head}.{body}.{encoded(signed)}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
