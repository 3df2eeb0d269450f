"""Many nodes on one control plane: streams of one process that take what they are sent and serve nothing."""

import json
import subprocess
from typing import NamedTuple

from . import measure
from .process import Failed

PATIENCE = 590


class Fleet(NamedTuple):
    """How many nodes come at once, and what then happens."""
    nodes: int
    deaf: int
    """Nodes besides that read nothing of what they are sent."""
    keys: int
    rate: int
    """Keys changed a second, each of them once."""
    seconds: int


MANY_CHANGES = Fleet(nodes=100, deaf=10, keys=30_100, rate=1_000, seconds=30)
MANY_KEYS = Fleet(nodes=50, deaf=0, keys=1_000_000, rate=100, seconds=10)


def follow(machine, plane, fleet):
    """How long they take to come, and to get each change. Nothing has a CPU to itself: who changes keys
    and the nodes are mostly idle, and control plane and Postgres are on one CPU nowhere."""
    command = [
        machine.program("nodes"), plane.node_url, f"http://127.0.0.1:{plane.admin_port}",
        plane.token, *map(str, fleet)]
    with plane.on_all_cpus():
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise Failed(f"nodes failed: {done.stderr or done.stdout}")
    memory = {"control_plane_mib": plane.process.memory() / measure.MIB}
    return {name: float(value) for name, value in json.loads(done.stdout).items()} | memory
