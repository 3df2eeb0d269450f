"""Single HTTP calls: to the admin API, and to look at one answer."""

import http.client
import json
from dataclasses import dataclass


@dataclass
class Answer:
    status: int
    headers: object
    body: bytes

    def json(self):
        return json.loads(self.body)


class Client:
    """One kept-alive connection to a port of this machine."""

    def __init__(self, port, headers=None):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.headers = headers or {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def call(self, method, path, body=None, **headers):
        """One request. Underscores in names of headers stand for hyphens."""
        headers = self.headers | {name.replace("_", "-"): text for name, text in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body)
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def get(self, path, **headers):
        return self.call("GET", path, **headers)
