"""Many nodes on one control plane: streams of one process that take what they are sent and serve nothing."""

import json
import subprocess

from . import measure
from .process import Failed

NODES = 100
RATE = 1_000
"""Keys changed a second, each of them once."""
SECONDS = 30
PATIENCE = 300


def follow(machine, plane):
    """How long they take to come, and to get each change; the nodes have a CPU, all else the other one."""
    command = [
        machine.program("nodes"), plane.node_url, f"http://127.0.0.1:{plane.admin_port}",
        plane.token, str(NODES), str(RATE * SECONDS), str(RATE), str(SECONDS)]
    pinned = ["taskset", "-c", ",".join(map(str, machine.gateway_cpus(1))), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise Failed(f"nodes failed: {done.stderr or done.stdout}")
    memory = {"control_plane_mib": plane.process.memory() / measure.MIB}
    return {name: float(value) for name, value in json.loads(done.stdout).items()} | memory
