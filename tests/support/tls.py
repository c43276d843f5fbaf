"""TLS for tests and benchmarks: a certificate, and an emulator that is reached by https.

The emulator speaks plain HTTP; a process of its own takes the encryption off and hands the bytes
on, a thread a connection. It knows nothing of HTTP, and its calls encrypt a MiB at a time without
the GIL, so that it costs little more than a server written in C.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.emulator import EmulatorProcess

_PIECE = 1 << 20


def make_certificate(path: Path) -> None:
    """Write a self-signed certificate for 127.0.0.1, good for a day, and its key to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "canned")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )


class TlsEmulator(EmulatorProcess):
    """The same emulator, by https; started and stopped by whoever started that."""

    def __init__(self, emulator: EmulatorProcess, port: int, certificate: Path) -> None:
        self.__dict__.update(vars(emulator))
        self._tls_port = port
        self.certificate = certificate
        """The file that lets a client trust it."""

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self._tls_port}"


@contextmanager
def over_tls(emulator: EmulatorProcess) -> Iterator[TlsEmulator]:
    """Serve a running emulator by https too; what is started meanwhile trusts its certificate."""
    with tempfile.TemporaryDirectory(prefix="ossfs-tls-") as directory:
        certificate = Path(directory) / "both.pem"
        make_certificate(certificate)
        command = [sys.executable, "-m", "tests.support.tls", certificate, str(emulator.port)]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # it ends when this closes, even where we are killed
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
            text=True,
        ) as process:
            assert process.stdout is not None
            trusted = os.environ.get("SSL_CERT_FILE")
            os.environ["SSL_CERT_FILE"] = str(certificate)
            try:
                yield TlsEmulator(emulator, int(process.stdout.readline()), certificate)
            finally:
                if trusted is None:
                    del os.environ["SSL_CERT_FILE"]
                else:
                    os.environ["SSL_CERT_FILE"] = trusted
                process.kill()


def _relay(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Carry bytes between an encrypted and a plain connection until one of them ends."""
    buffer = memoryview(bytearray(_PIECE))
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as plain:
        for each in (raw, plain):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(raw, server_side=True) as encrypted:
            poll = select.poll()
            for each in (encrypted, plain):
                poll.register(each, select.POLLIN)
            while True:
                for ready, _ in poll.poll():
                    source, sink = (
                        (encrypted, plain) if ready == encrypted.fileno() else (plain, encrypted)
                    )
                    more = True
                    while more:
                        count = source.recv_into(buffer)
                        if not count:
                            return
                        sink.sendall(buffer[:count])
                        more = source is encrypted and encrypted.pending() > 0


def _main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            arguments = (listener.accept()[0], context, int(sys.argv[2]))
            threading.Thread(target=_relay, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _main()
