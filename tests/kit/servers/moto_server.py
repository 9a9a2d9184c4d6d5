"""The AWS of moto, in its server mode."""

from __future__ import annotations

import http.client
import sys
from typing import Any

from tests.kit.servers.process import HOST, ServerProcess


class MotoServer(ServerProcess):
    """S3, DynamoDB, SQS and more of AWS, at one URL."""

    name = "moto"

    @property
    def url(self) -> str:
        """What boto3 takes as endpoint_url."""
        return f"http://{self.address}"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]

    def client(self, service: str, **config: Any) -> Any:
        """Return a client of boto3; config is that of botocore, with no retries if not said."""
        import boto3
        from botocore.config import Config

        config.setdefault("retries", {"total_max_attempts": 1})
        return boto3.session.Session().client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(**config),
        )

    def answers(self) -> bool:
        """Say whether it answers."""
        return self._ask("GET", "/moto-api/data.json") == 200

    def clear(self) -> None:
        """Forget all buckets, tables and queues."""
        assert self._ask("POST", "/moto-api/reset") == 200

    def _ask(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except http.client.HTTPException:
            return 0
        finally:
            connection.close()
