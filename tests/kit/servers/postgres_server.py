"""A PostgreSQL that keeps its cluster over a kill, and loses it with the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.kit.servers.process import HOST, ServerError, ServerProcess, needed

USER = "postgres"
_PLACES = Path("/usr/lib/postgresql")  # where Debian has a directory for each version
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "fsync": "off",  # what was committed is kept all the same where only the server is killed
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",  # in the directory: a kill leaves nothing in /dev/shm
}


def postgres_programs() -> str | None:
    """Return the directory of initdb and postgres of the newest version, None where there is none."""
    places = [place for place in _PLACES.glob("*/bin") if (place / "initdb").exists()]
    if places:
        return str(max(places, key=lambda place: float(place.parent.name)))
    found = shutil.which("initdb")
    return None if found is None else str(Path(found).resolve().parent)


class PostgresServer(ServerProcess):
    """A PostgreSQL of the tests' own; all is allowed to user postgres, without a password."""

    name = "postgres"

    def __init__(self) -> None:
        said = "there is no initdb of PostgreSQL"
        self._programs = Path(needed(postgres_programs(), said, "RESILIENT_NEED_POSTGRES"))
        super().__init__()
        self._cluster = self.directory / "cluster"

    @property
    def conninfo(self) -> str:
        """What psycopg.connect takes."""
        return f"host={HOST} port={self.port} user={USER} dbname=postgres"

    @property
    def url(self) -> str:
        """The URL of libpq."""
        return f"postgresql://{USER}@{self.address}/postgres"

    @property
    def sqlalchemy_url(self) -> str:
        """The URL of SQLAlchemy's create_engine and create_async_engine."""
        return f"postgresql+psycopg://{USER}@{self.address}/postgres"

    def prepare(self) -> None:
        """Make the cluster."""
        if os.getuid() == 0:
            shutil.chown(self.directory, USER)
        made = subprocess.run(
            [
                str(self._programs / "initdb"), "--pgdata", str(self._cluster), "--username", USER,
                "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **self.options(),
        )  # fmt: skip
        if made.returncode:
            raise ServerError(f"initdb failed: {made.stdout}\n{made.stderr}")

    def command(self) -> list[str]:
        """Return the command that starts it."""
        words = [str(self._programs / "postgres"), "-D", str(self._cluster), "-p", str(self.port)]
        for name, value in _SETTINGS.items():
            words += ["-c", f"{name}={value}"]
        return words

    def options(self) -> dict[str, Any]:
        """Run as user postgres where this process is root, which PostgreSQL refuses."""
        user = {"user": USER, "group": USER, "extra_groups": []} if os.getuid() == 0 else {}
        return {"cwd": self.directory, "env": {**os.environ, "LC_ALL": "C"}, **user}

    def answers(self) -> bool:
        """Say whether it takes a connection, and answers."""
        import psycopg

        try:
            with psycopg.connect(self.conninfo, connect_timeout=2) as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def clear(self) -> None:
        """End the other connections, and drop what is in the schema."""
        import psycopg

        with psycopg.connect(self.conninfo, autocommit=True, connect_timeout=5) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
            connection.execute("CREATE SCHEMA public")
