"""The webhook's certificate, from files that are replaced while the operator runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)
CHECK_SECONDS = 10.0


class Certificate:
    """A certificate and its key: `tls.crt` and `tls.key` of a mounted Secret."""

    def __init__(self, folder: Path) -> None:
        """Load the files.

        Raises:
            OSError: a file cannot be read, or (ssl.SSLError) certificate and key do not belong together.
        """
        self._files = (folder / "tls.crt", folder / "tls.key")
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._loaded = self._read()
        self.context.load_cert_chain(*self._files)

    def reload(self) -> bool:
        """Load the files again if they have changed; new connections then get the new certificate.

        Returns:
            Whether a new certificate was loaded. One that cannot be loaded is logged, and the old one stays.
        """
        try:
            found = self._read()
            if found == self._loaded:
                return False
            self.context.load_cert_chain(*self._files)
        except OSError as error:
            # Also between the replacement of one file and of the other, if somebody does it by hand.
            log.warning("the certificate in %s cannot be loaded, the one before stays: %s", self._files[0], error)
            return False
        self._loaded = found
        log.info("loaded a new certificate from %s", self._files[0])
        return True

    async def keep_fresh(self, seconds: float = CHECK_SECONDS) -> None:
        """Look for new files, for ever."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.reload)

    def _read(self) -> tuple[bytes, ...]:
        return tuple(path.read_bytes() for path in self._files)
