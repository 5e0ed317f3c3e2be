#!/usr/bin/env python3
"""The transit engine as its documentation has it, over TLS, with real AES-256-GCM and with faults; for tests.

usage: transit-server.py FOLDER [KEY...]

FOLDER has server.pem and server.key; here the port is written into FOLDER/port, a line for each request into
FOLDER/requests, and FOLDER/fault says what goes wrong. Keys are made and rotated as in the engine:
POST /v1/transit/keys/NAME, POST /v1/transit/keys/NAME/rotate.
"""
import base64
import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

folder = sys.argv[1]
token = "s.cairn"
keys = {name: [os.urandom(32)] for name in sys.argv[2:]}  # versions, from the first
lock = threading.Lock()


def fault():
    try:
        with open(folder + "/fault") as file:
            return file.read()
    except FileNotFoundError:
        return ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, fields=()):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, text in fields:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def errors(self, status, *texts):
        self.answer(status, {"errors": list(texts)})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with lock, open(folder + "/requests", "a") as file:
            file.write(self.path + "\n")
        wrong = fault()
        if wrong.endswith(" once"):
            os.remove(folder + "/fault")
            wrong = wrong[: -len(" once")]
        if wrong == "sealed":
            return self.errors(503, "Vault is sealed")
        if wrong == "closed":
            self.close_connection = True
            self.connection.close()
            return None
        if wrong == "garbage":
            return self.answer(200, b'{"data": {"ciphertext": "vault:v1:')
        if wrong == "no data":
            return self.answer(200, {"data": {"ciphertext": 3, "plaintext": "%%%"}})
        if wrong == "list":
            return self.answer(200, b"[" * 60_000)
        if wrong == "huge":
            return self.answer(200, b" " * (1 << 20))
        if wrong == "standby":
            return self.answer(307, b"", [("Location", "https://other:8200" + self.path)])
        if wrong == "strange":
            return self.answer(418, {"errors": ["a\nb" * 1000]})
        while wrong == "slow" and fault() == "slow":
            time.sleep(0.01)
        if self.headers.get("X-Vault-Token") != token:
            return self.errors(403, "permission denied")
        if self.headers.get("X-Vault-Namespace") not in (None, "team/one"):
            return self.errors(403, "permission denied")
        try:
            value = json.loads(body or b"{}")
        except ValueError:
            return self.errors(400, "error parsing JSON")
        parts = self.path.split("/")
        if parts[:3] != ["", "v1", "transit"]:
            return self.errors(404, "no handler for route")
        with lock:
            return self.transit(parts[3:], value)

    def transit(self, parts, value):
        if len(parts) == 2 and parts[0] == "keys":
            keys.setdefault(parts[1], [os.urandom(32)])
            return self.answer(200, {"data": {"name": parts[1]}})
        if len(parts) == 3 and parts[0] == "keys" and parts[2] == "rotate":
            keys[parts[1]].append(os.urandom(32))
            return self.answer(200, {"data": {"name": parts[1]}})
        if len(parts) != 2 or parts[0] not in ("encrypt", "decrypt"):
            return self.errors(404, "unsupported path")
        if parts[1] not in keys:
            return self.errors(400, "encryption key not found")
        versions = keys[parts[1]]
        try:
            if fault() == "unbound":
                value.pop("associated_data", None)
            additional = base64.b64decode(value.get("associated_data", ""), validate=True)
            if parts[0] == "encrypt":
                plain = base64.b64decode(value["plaintext"], validate=True)
                nonce = os.urandom(12)
                sealed = nonce + AESGCM(versions[-1]).encrypt(nonce, plain, additional)
                if fault() == "wraps wrongly":
                    sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
                text = f"vault:v{len(versions)}:" + base64.b64encode(sealed).decode()
                return self.answer(
                    200, {"data": {"ciphertext": text, "key_version": len(versions)}, "lease_id": ""})
            _, version, text = value["ciphertext"].split(":", 2)
            sealed = base64.b64decode(text, validate=True)
            number = int(version[1:])
            if not 1 <= number <= len(versions):
                return self.errors(400, "invalid ciphertext: version is too new")
            plain = AESGCM(versions[number - 1]).decrypt(sealed[:12], sealed[12:], additional)
            return self.answer(200, {"data": {"plaintext": base64.b64encode(plain).decode()}})
        except InvalidTag:
            return self.errors(400, "cipher: message authentication failed")
        except (ValueError, KeyError):
            return self.errors(400, "invalid ciphertext: could not decode base64")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/server.pem", folder + "/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
with open(folder + "/port.new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename(folder + "/port.new", folder + "/port")
server.serve_forever()
