"""No gateway at all, and the least a gateway can be: what the others are measured from."""

from .. import work
from .gateway import Gateway


class Direct(Gateway):
    """The upstream itself."""

    def start(self):
        self.port = self.setup.upstream.port
        return self.setup.upstream.process

    def stop(self):
        """It is not ours to stop."""


class Floor(Gateway):
    """Forwards over kept connections, and does nothing else."""

    program = "floor"
    note = "no key, no limit, no request id, no record, no HTTP/2"

    def start(self):
        return self.launch(f"127.0.0.1:{self.port}", f"127.0.0.1:{self.setup.upstream.port}")
