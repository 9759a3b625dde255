#!/usr/bin/env bash
# hf_xet 1.8.0 remembers for three weeks, in $HF_HOME/xet, which chunks it sent to an address, and refers to them later
# without asking whether they are still there (the protocol has a question for that, HEAD of a xorb). A server that keeps
# chunks for a shorter time can only fail such an upload, as often as it is tried. With another address (casUrl) everything
# is sent again. So the address that a dock gives changes when chunks expire (src/learndock/service/xorbs.py). Exits non-zero
# if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "hf-xet==1.8.0"
cd "$folder" && HF_HOME="$folder/home" venv/bin/python - <<'PY'
import json, random, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hf_xet

heard = []


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/token"):
            self.answer(200, {"accessToken": "x", "exp": 1 << 33, "casUrl": url + self.path.removeprefix("/token")})
        else:
            self.answer(404, {})

    def do_HEAD(self):
        heard.append("asked")
        self.answer(404, {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if "/xorbs/" in self.path:
            heard.append("sent")
            self.answer(200, {"was_inserted": True})
        elif "/v1/shards" in self.path:
            self.answer(200, {"result": 1})
        else:
            self.answer(404, {})

    def answer(self, status, body):
        source = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(source)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(source if self.command != "HEAD" else b"")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
url = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()


def upload(address: str) -> list[str]:
    """Upload the same bytes; returns what the server heard of their chunks."""
    heard.clear()
    session = hf_xet.XetSession()
    with session.new_upload_commit(token_refresh_url=f"{url}/token/{address}", token_refresh_headers={}) as commit:
        commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256, name="file")
    return list(heard)


content = random.Random(0).randbytes(3_000_000)
found = {"first": upload("a"), "again": upload("a"), "at another address": upload("b")}
print(found)
assert found == {"first": ["sent"], "again": [], "at another address": ["sent"]}, "it sends or asks again now"
PY
