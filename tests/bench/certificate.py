"""A certificate for this run, as any gateway may have one: P-256, signed by itself."""

import subprocess


class Certificate:
    def __init__(self, machine, folder):
        self.chain, self.key = folder / "certificate.pem", folder / "key.pem"
        subprocess.run(
            [machine.program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-keyout", self.key, "-out", self.chain], check=True, capture_output=True)
        # HAProxy wants both in one file.
        self.both = folder / "certificate-and-key.pem"
        self.both.write_text(self.chain.read_text() + self.key.read_text())
