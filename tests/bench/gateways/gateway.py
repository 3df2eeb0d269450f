"""What all gateways have in common: set up alike, asked alike, recording their requests."""

import contextlib
import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .. import work
from ..calls import Client
from ..process import Process, free_port


@dataclass(frozen=True)
class Setup:
    """What a gateway is started with."""

    machine: object
    folder: Path
    upstream: object
    keys: list
    certificate: object
    control_plane: object = None
    """FastGate's; the others have their keys in their config."""
    limit: int = work.LIMIT
    workers: int = 1
    wrapper: tuple = ()
    """What its program is started by, such as valgrind."""

    @property
    def cpus(self):
        return self.machine.gateway_cpus(self.workers)


class Gateway:
    """A gateway that runs. Below it: its config, how it is started, what it does otherwise."""

    program = ""
    note = ""
    """Where its work differs from that of the others."""
    tls_port = None

    def __init__(self, name, setup):
        self.name = name
        self.setup = setup
        self.folder = setup.folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.h2c_port = free_port()
        self.process = self.start()
        self.process.wait_for_port(self.port)

    def start(self):
        """Writes its config and starts it."""
        raise NotImplementedError

    def launch(self, *arguments, **options):
        """Its program with these arguments, on its CPUs."""
        program = self.setup.machine.program(self.program)
        return Process(self.name, [*self.setup.wrapper, program, *arguments], self.setup.cpus,
                       self.folder, **options)

    def stop(self):
        self.process.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{work.PREFIX}"

    @property
    def h2c_url(self):
        return f"http://127.0.0.1:{self.h2c_port}{work.PREFIX}"

    @property
    def tls_url(self):
        return f"https://127.0.0.1:{self.tls_port}{work.PREFIX}"

    def ask(self, path, key, method="GET", body=None, **headers):
        """One request with a key, or with none."""
        if key:
            headers["X_API_Key"] = key.secret
        with Client(self.port) as client:
            return client.call(method, work.PREFIX + path, body, **headers)

    def records(self):
        """Records of requests that were written, since the start; None: it writes none."""
        return None

    def sample(self):
        """The last record, field by field."""
        return {}

    def settle(self, expected, seconds=5):
        """Waits for records that are still on their way; returns how many there are."""
        deadline = time.monotonic() + seconds
        while (records := self.records()) is not None:
            if records >= expected or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return records

    def forget(self):
        """Lets go of records that were counted. Call it while there is no load."""

    @contextlib.contextmanager
    def tight(self):
        """A gateway and a key that is soon over its limit."""
        setup = dataclasses.replace(self.setup, limit=work.TIGHT_LIMIT)
        gateway = type(self)(f"{self.name}-tight", setup)
        try:
            yield gateway, self.setup.keys[0]
        finally:
            gateway.stop()


class FileGateway(Gateway):
    """A gateway that writes its records into a file, one line of JSON each."""

    def __init__(self, name, setup):
        self.audit = setup.folder / name / "audit.log"
        self.audit.parent.mkdir(parents=True, exist_ok=True)
        self.audit.touch()
        self.read = self.lines = 0
        self.last = b"{}"
        super().__init__(name, setup)

    def stop(self):
        super().stop()
        self.audit.unlink(missing_ok=True)

    def records(self):
        with self.audit.open("rb") as file:
            file.seek(self.read)
            while chunk := file.read(1 << 24):
                whole = chunk[:chunk.rfind(b"\n") + 1]
                if not whole:
                    break
                self.lines += whole.count(b"\n")
                self.last = whole[whole.rfind(b"\n", 0, -1) + 1:]
                self.read += len(whole)
                file.seek(self.read)
        return self.lines

    def sample(self):
        return json.loads(self.last)

    def forget(self):
        os.truncate(self.audit, 0)
        self.read = 0
