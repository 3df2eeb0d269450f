"""Who takes part, by name: which gateway, set up how."""

import contextlib
import dataclasses

from . import counts, probe
from .gateways.envoy import Envoy
from .gateways.fastgate import FastGate, FastGateAskingRedis, FastGateRedis
from .gateways.haproxy import HAProxy
from .gateways.nginx import Nginx
from .gateways.pingora import Pingora
from .gateways.plain import Direct, Floor

CONTESTANTS = {
    "direct": (Direct, {}),
    "floor": (Floor, {}),
    "nginx": (Nginx, {}),
    "haproxy": (HAProxy, {}),
    "envoy": (Envoy, {}),
    "pingora": (Pingora, {}),
    "fastgate": (FastGate, {}),
    "fastgate-redis": (FastGateRedis, {}),
    "fastgate-asking-redis": (FastGateAskingRedis, {}),
    "nginx-2-workers": (Nginx, {"workers": 2}),
    "fastgate-2-workers": (FastGate, {"workers": 2}),
}

WITHOUT_WORK = (Direct, Floor)
"""They only pass bytes on, so there is no work to check."""


class Fleet:
    """Starts contestants, each checked the first time."""

    def __init__(self, setup):
        self.setup = setup
        self.checked = set()

    @contextlib.contextmanager
    def running(self, name, counted=False):
        """A contestant, ready for load, its instructions counted or not. It ends with the block."""
        kind, overrides = CONTESTANTS[name]
        setup = dataclasses.replace(self.setup, **overrides)
        if counted:
            folder = setup.folder / name
            setup = dataclasses.replace(setup, wrapper=counts.wrapper(setup.machine, folder))
        gateway = kind(name, setup)
        try:
            if kind not in WITHOUT_WORK and not counted and name not in self.checked:
                probe.check(gateway)
                self.checked.add(name)
            yield gateway
        finally:
            gateway.stop()
