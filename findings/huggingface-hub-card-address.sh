#!/bin/sh
# huggingface_hub before 2.0 (tried: 0.34.4, 1.33.0) checks a card at its vendor's address, whatever HF_ENDPOINT
# says: ModelCard.push_to_hub, validate and metadata_update fail behind a firewall, and tell the vendor a private card.
# We expected HF_ENDPOINT to hold for every request. 2.4.0 does so. Touches: the cards of docs/hub.md.
# All requests go to a proxy on this machine, which notes the host that is asked for and refuses.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/ask.py" <<'PROGRAM'
import os, socket, threading
listening = socket.create_server(("127.0.0.1", 0))
address = f"http://127.0.0.1:{listening.getsockname()[1]}"
os.environ |= {"HF_ENDPOINT": f"{address}/dock", "HTTPS_PROXY": address, "NO_PROXY": "", "HF_HUB_DISABLE_TELEMETRY": "1"}
os.environ.pop("HF_HUB_OFFLINE", None)
asked = []
def answer():
    while True:
        connection, _ = listening.accept()
        asked.append(connection.recv(4096).split(b"\r\n")[0].decode())
        connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()
threading.Thread(target=answer, daemon=True).start()
from huggingface_hub import ModelCard
try:
    ModelCard("---\nlicense: mit\n---\n# A card").validate()
except Exception:
    pass
print(asked[0].split()[0], "elsewhere" if "/dock/" not in asked[0] else "HF_ENDPOINT")
PROGRAM
for version in 0.34.4 1.33.0 2.4.0; do
    python3 -m venv "$place/$version"
    "$place/$version/bin/python" -m pip install -q "huggingface_hub==$version"
    found=$("$place/$version/bin/python" "$place/ask.py")
    echo "$version: $found"
    case $version in
        2.*) [ "$found" = "POST HF_ENDPOINT" ] ;;
        *) [ "$found" = "CONNECT elsewhere" ] ;;
    esac
done
