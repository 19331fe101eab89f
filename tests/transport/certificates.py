"""Certificates for TLS, made with the program openssl where a test needs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


class Pair(NamedTuple):
    """A certificate and its key, both in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of a test's own.

    Args:
        directory: where its files are put.
        name: of the authority, and the stem of its files.
    """

    def __init__(self, directory: Path, name: str = "authority") -> None:
        if shutil.which("openssl") is None:
            pytest.skip("the program openssl is not installed")
        self._directory = directory
        self.certificate, self._key = directory / f"{name}.pem", directory / f"{name}.key"
        self._run(
            "req",
            "-x509",
            *self._new_key(self._key),
            "-out",
            self.certificate,
            *self._subject(name),
            # Which Python demands from 3.13 on.
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(self, name: str, names: str = NAMES, days: int = 2) -> Pair:
        """Return a certificate that it has signed, for ``names``; one of -1 days has expired."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        request, extension = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extension.write_text(f"{names}\nauthorityKeyIdentifier=keyid\n")
        self._run("req", *self._new_key(pair.key), "-out", request, *self._subject(name))
        signed_by = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial")
        extensions = ("-days", days, "-extfile", extension)
        self._run("x509", "-req", "-in", request, *signed_by, "-out", pair.certificate, *extensions)
        return pair

    @staticmethod
    def _new_key(path: Path) -> tuple[object, ...]:
        return (
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            path,
        )

    @staticmethod
    def _subject(name: str) -> tuple[str, ...]:
        return ("-subj", f"/CN={name}")

    @staticmethod
    def _run(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
