"""A Postgres server on loopback, for tests of what uses one."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import free_port

# The options of the URI that the charts give to MLflow.
URI_OPTIONS = "connect_timeout=10&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000"
FOR_WRITING = "&target_session_attrs=read-write"
_CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_USER = "mlflow"
_PASSWORD = "secret"


@dataclass
class Postgres:
    """A server whose data directory can be lost; `programs` is the folder of its programs."""

    folder: Path
    programs: Path
    port: int = field(default_factory=free_port)

    @property
    def environment(self) -> dict[str, str]:
        """How libpq reaches it."""
        return {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": _USER,
            "PGPASSWORD": _PASSWORD,
            "PGDATABASE": "mlflow",
        }

    @property
    def uri(self) -> str:
        """How SQLAlchemy reaches it for writing, with the environment above."""
        return self.uri_for_reading + FOR_WRITING

    @property
    def uri_for_reading(self) -> str:
        """The same for connections that only read."""
        return f"postgresql+psycopg2://127.0.0.1:{self.port}/?{URI_OPTIONS}"

    def start(self) -> None:
        """Start it, on an empty database if it has none."""
        if not (self._data / "PG_VERSION").exists():
            self._create_folder()
            password = self.folder / "password"
            password.write_text(_PASSWORD)
            self._give(password)
            self._run("initdb", "--username", _USER, f"--pwfile={password}", "--auth-host=scram-sha-256",
                      "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")  # fmt: skip
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "--log", str(self.folder / "log"), "--options", options)
        subprocess.run(["createdb", "mlflow"], env={**os.environ, **self.environment}, capture_output=True)

    def follow(self, primary: Postgres) -> None:
        """Start it as a standby, on a copy of another server that goes on to get all that the other one writes."""
        self._create_folder()
        source = f"host=127.0.0.1 port={primary.port} user={_USER} password={_PASSWORD}"
        self._run("pg_basebackup", "--dbname", source, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self.start()

    def promote(self) -> None:
        """Make a standby a server of its own, which accepts writes."""
        self._run("pg_ctl", "promote", "--wait")

    def stop(self) -> None:
        """Stop it and cut its connections."""
        self._run("pg_ctl", "stop", "--mode=immediate")

    def lose(self) -> None:
        """Lose the data directory, and start again on an empty database, as a StatefulSet does on a new volume."""
        self.stop()
        subprocess.run(["rm", "-rf", str(self._data)], check=True)
        self.start()

    def sql(self, statement: str, database: str = "mlflow") -> list[str]:
        """Run a statement as a superuser and return its rows."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", statement, database]
        result = subprocess.run(command, env={**os.environ, **self.environment}, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()

    def refuse_writes(self, *, cut: bool = False) -> None:
        """Accept no writes in new sessions and in those that exist, or end those, as a failover does."""
        self.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        self.sql(f"SELECT pg_reload_conf(); {_CUT}" if cut else "SELECT pg_reload_conf()")
        self._wait_for_sessions("on")

    def accept_writes(self) -> None:
        """Accept writes again."""
        self.sql("ALTER SYSTEM RESET default_transaction_read_only")
        self.sql("SELECT pg_reload_conf()")
        self._wait_for_sessions("off")

    def cut_connections(self) -> None:
        """End every other session of the database."""
        self.sql(_CUT)

    def _wait_for_sessions(self, read_only: str) -> None:
        """Return once new sessions are as wanted: the server reads its settings again some time after it is told to."""
        deadline = time.monotonic() + 30
        while self.sql("SHOW default_transaction_read_only") != [read_only]:
            assert time.monotonic() < deadline, f"default_transaction_read_only is not {read_only} after 30 s"

    @property
    def version(self) -> int:
        """The server's version, such as 150018."""
        return int(self.sql("SHOW server_version_num")[0])

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _create_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._give(self.folder)

    @staticmethod
    def _give(path: Path) -> None:
        """Give a file or folder to the user that the server runs as."""
        if not os.geteuid():
            os.chown(path, *_owner())

    def _run(self, program: str, *arguments: str) -> None:
        # The server refuses to run as root.
        user: dict[str, Any] = {} if os.geteuid() else dict(zip(("user", "group"), _owner(), strict=True))
        command = [str(self.programs / program), "--pgdata", str(self._data), *arguments]
        with (self.folder / "output").open("ab") as log:
            result = subprocess.run(command, stdout=log, stderr=log, cwd="/", extra_groups=[], **user) if user else (
                subprocess.run(command, stdout=log, stderr=log))  # fmt: skip
        assert result.returncode == 0, (self.folder / "output").read_text()


def _owner() -> tuple[int, int]:
    import pwd  # noqa: PLC0415 - root's machines alone

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid
