"""Tests of the kit: what one kind of server has that others have not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psycopg
import pytest

from tests.kit.servers import tree
from tests.kit.servers.fixtures import shared
from tests.kit.servers.grpc_server import GrpcServer
from tests.kit.servers.moto_server import MotoServer
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.servers.redis_server import RedisServer


def test_an_open_session_of_postgres_freezes_too(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.conninfo) as session, ThreadPoolExecutor(1) as pool:
        assert len(tree.tree(postgres_server.process.pid)) > 2
        postgres_server.stop()
        asked = pool.submit(lambda: session.execute("SELECT 2").fetchone())
        try:
            with pytest.raises(TimeoutError):
                asked.result(0.5)
        finally:
            postgres_server.cont()
        assert asked.result(5) == (2,)


def test_postgres_keeps_its_tables_over_a_kill_and_is_cleared(
    postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> None:
    ask = "SELECT to_regclass('kept')"
    with psycopg.connect(postgres_server.conninfo) as session:
        session.execute("CREATE TABLE kept (a int)")
    postgres_server.restart()
    with psycopg.connect(postgres_server.conninfo) as session:
        assert session.execute(ask).fetchone() == ("kept",)
        shared(PostgresServer, request.config)  # ends even a transaction that is open
        with pytest.raises(psycopg.OperationalError):
            session.execute(ask)
    with psycopg.connect(postgres_server.conninfo) as session:
        assert session.execute(ask).fetchone() == (None,)


def test_redis_and_moto_are_emptied(
    redis_server: RedisServer, moto_server: MotoServer, request: pytest.FixtureRequest
) -> None:
    assert redis_server.send("SET", "a", "1").startswith(b"+OK")
    s3 = moto_server.client("s3")
    s3.create_bucket(Bucket="kept")
    assert len(s3.list_buckets()["Buckets"]) == 1
    shared(RedisServer, request.config)
    shared(MotoServer, request.config)
    assert redis_server.send("GET", "a") == b"$-1\r\n"
    assert s3.list_buckets()["Buckets"] == []
    s3.close()


def test_moto_has_dynamodb_and_sqs(moto_server: MotoServer) -> None:
    dynamodb, sqs = moto_server.client("dynamodb"), moto_server.client("sqs")
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="t", Item={"k": {"S": "a"}})
    assert dynamodb.get_item(TableName="t", Key={"k": {"S": "a"}})["Item"] == {"k": {"S": "a"}}
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="hello")
    assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"
    dynamodb.close()
    sqs.close()


def test_the_methods_of_grpc(grpc_server: GrpcServer) -> None:
    with grpc.insecure_channel(grpc_server.target) as channel:

        def call(name: str, request: Any, **options: Any) -> Any:
            return grpc_server.method(channel, name)(request, timeout=5, **options)

        assert call("Sleep", b"0.01") == b"slept"
        with pytest.raises(grpc.RpcError) as raised:
            call("Fail", b"RESOURCE_EXHAUSTED")
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert list(call("Count", b"3 0.01")) == [b"0", b"1", b"2"]
        assert call("Sum", iter([b"1", b"2"])) == b"3"
        assert list(call("Chat", iter([b"a", b"b"]))) == [b"a", b"b"]
        said = json.loads(call("Metadata", b"", metadata=[("key", "value")]))
        assert ["key", "value"] in said["metadata"]
        assert 3 < said["time_remaining"] < 5.5
        assert json.loads(grpc_server.method(channel, "Metadata")(b""))["time_remaining"] is None
