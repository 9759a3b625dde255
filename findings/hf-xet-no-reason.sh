#!/usr/bin/env bash
# hf_xet 1.8.0, with which huggingface_hub from 1.20 on uploads large files, shows of an answer that is an error only its
# status and address: neither the body nor X-Error-Message, which huggingface_hub itself shows for every other request. We
# expected the server's reason. So a dock names the reason of a full quota in the address, by a redirect
# (src/learndock/http/hub/xet.py). Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "hf-xet==1.8.0"
cd "$folder" && HF_HOME="$folder/home" venv/bin/python - <<'PY'
import json, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import hf_xet


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, {"accessToken": "x", "exp": 1 << 33, "casUrl": url}
        if "/v1/chunks/" in self.path:
            status, body = 404, {}
        self.answer(status, body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if "/v1/xorbs/" in self.path:
            self.answer(413, {"error": "your quota is used up"})
        else:
            self.answer(404, {})

    def answer(self, status, body):
        source = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(source)))
        self.send_header("Content-Type", "application/json")
        if status >= 400:
            self.send_header("X-Error-Message", "your quota is used up")
        self.end_headers()
        self.wfile.write(source)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
url = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
try:
    with hf_xet.XetSession().new_upload_commit(token_refresh_url=f"{url}/token", token_refresh_headers={}) as commit:
        commit.start_upload_bytes(b"a file", sha256=hf_xet.COMPUTE_SHA256, name="file")
except Exception as error:
    shown = str(error)
print(shown)
assert "413" in shown, "the status is not shown any more"
assert "quota" not in shown, "the reason is shown now"
PY
