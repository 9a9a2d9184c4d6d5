"""boto3's clients of S3 and DynamoDB on moto, bare and wrapped."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import re
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.transparency.harness import (
    MODES,
    Operations,
    Side,
    few,
    inspect_pair,
    play,
    policy_of,
    same,
)
from tests.kit.servers.moto_server import MotoServer

s3 = Operations()
dynamodb = Operations()
keys = st.sampled_from(["a", "b/c", "d"])
buckets = st.sampled_from(["bucket", "bucket", "bucket", "no-such-bucket", "", 5])
payloads = st.sampled_from([b"", b"hello", "text", io.BytesIO, None, 5])
errors = st.sampled_from([ValueError("in the body"), None])
_VARYING = {
    "Date", "LastModified", "RequestId", "HostId", "date", "x-amzn-requestid", "CreationDate", "x-amz-request-id",
    "CreationDateTime", "UploadId", "last-modified", "TableId", "HTTPHeaders",
}  # fmt: skip


def plain(value: Any) -> Any:
    """Return a response without what is different each time."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in _VARYING}
    return [plain(each) for each in value] if isinstance(value, list) else value


@s3(bucket=buckets, key=keys, body=payloads)
def put(side: Side, bucket: Any, key: str, body: Any) -> Any:
    return plain(
        side.client.put_object(
            Bucket=bucket, Key=key, Body=body(b"from a file") if callable(body) else body
        )
    )


@s3(bucket=buckets, key=keys)
def get(side: Side, bucket: Any, key: str) -> Any:
    found = side.client.get_object(Bucket=bucket, Key=key)
    body = found.pop("Body")
    return (
        plain(found),
        type(found),
        body.read(2),
        body.read(),
        body.read(),
        body.__class__.__name__,
    )


@s3(
    key=keys,
    how=st.sampled_from(
        ["iter_chunks", "iter_lines", "iter", "block", "readinto", "next", "close", "readlines"]
    ),
)
def body(side: Side, key: str, how: str) -> Any:
    side.client.put_object(Bucket="bucket", Key=key, Body=b"one\ntwo\nthree")
    found = side.client.get_object(Bucket="bucket", Key=key)["Body"]
    if how == "block":
        with found as inside:
            return inside.read(), inside.readable()
    if how == "readinto":
        room = bytearray(5)
        return found.readinto(room), bytes(room), found.tell()
    if how == "next":
        return next(found), isinstance(found, io.IOBase), found.read(3)
    if how == "close":
        return found.close(), found.read()
    return list(found) if how == "iter" else list(getattr(found, how)())


@s3(key=keys)
def body_in_a_wrapper(side: Side, key: str) -> Any:
    side.client.put_object(Bucket="bucket", Key=key, Body=b"one\ntwo\nthree")
    found = side.client.get_object(Bucket="bucket", Key=key)["Body"]
    return list(io.TextIOWrapper(io.BufferedReader(found)))


@s3(key=keys)
def head(side: Side, key: str) -> Any:
    return plain(side.client.head_object(Bucket="bucket", Key=key))


@s3(key=keys)
def delete(side: Side, key: str) -> Any:
    return plain(side.client.delete_object(Bucket="bucket", Key=key))


@s3(bucket=buckets)
def lists(side: Side, bucket: Any) -> Any:
    return plain(side.client.list_objects_v2(Bucket=bucket))


@s3()
def wrong_parameters(side: Side) -> Any:
    return side.client.get_object(Bucket="bucket", Nothing=1)


@s3()
def positional(side: Side) -> Any:
    return side.client.get_object("bucket")


@s3()
def caught(side: Side) -> Any:
    try:
        side.client.get_object(Bucket="bucket", Key="missing")
    except side.client.exceptions.NoSuchKey as error:
        return (
            error.response["Error"]["Code"],
            isinstance(error, botocore.exceptions.ClientError),
            plain(error.response),
        )


@s3()
def exceptions(side: Side) -> Any:
    found = side.client.exceptions
    return (
        found.NoSuchKey.__name__, issubclass(found.NoSuchKey, found.ClientError),
        found.from_code("NoSuchBucket").__name__, found.NothingSuch,
    )  # fmt: skip


@s3(size=st.integers(1, 2), prefix=st.sampled_from(["", "b"]))
def pages(side: Side, size: int, prefix: str) -> Any:
    for key in "abcd":
        side.client.put_object(Bucket="bucket", Key=key, Body=b"x")
    paginator = side.client.get_paginator("list_objects_v2")
    found = paginator.paginate(Bucket="bucket", Prefix=prefix, PaginationConfig={"PageSize": size})
    return (
        [[each["Key"] for each in page.get("Contents", ())] for page in found],
        plain(found.build_full_result()), [str(key) for key in found.search("Contents[].Key")],
        found.result_keys[0].expression, found.resume_token,
    )  # fmt: skip


@s3()
def pages_missing(side: Side) -> Any:
    return list(side.client.get_paginator("list_objects_v2").paginate(Bucket="no-such-bucket"))


@s3()
def no_pages(side: Side) -> Any:
    return side.client.can_paginate("get_object"), side.client.get_paginator("get_object")


@s3()
def waits(side: Side) -> Any:
    waiter = side.client.get_waiter("bucket_exists")
    return (
        waiter.name,
        waiter.wait(Bucket="bucket"),
        sorted(side.client.waiter_names)[:2],
        waiter.config.delay,
    )


@s3(name=st.sampled_from(["object_exists", "nothing_such"]))
def waits_in_vain(side: Side, name: str) -> Any:
    waiter = side.client.get_waiter(name)
    return waiter.wait(Bucket="bucket", Key="missing", WaiterConfig={"Delay": 0, "MaxAttempts": 2})


@s3()
def uploads(side: Side) -> Any:
    started = side.client.create_multipart_upload(Bucket="bucket", Key="m")["UploadId"]
    part = side.client.upload_part(
        Bucket="bucket", Key="m", UploadId=started, PartNumber=1, Body=b"part"
    )
    done = side.client.complete_multipart_upload(
        Bucket="bucket", Key="m", UploadId=started,
        MultipartUpload={"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]},
    )  # fmt: skip
    return plain(done)


@s3()
def transfers(side: Side) -> Any:
    seen: list[int] = []
    side.client.upload_fileobj(io.BytesIO(b"z" * 100), "bucket", "moved", Callback=seen.append)
    target = io.BytesIO()
    side.client.download_fileobj("bucket", "moved", target)
    side.client.copy({"Bucket": "bucket", "Key": "moved"}, "bucket", "copied")
    return sum(seen), target.getvalue() == b"z" * 100


@s3()
def transfers_fail(side: Side) -> Any:
    side.client.download_fileobj("bucket", "missing", io.BytesIO())


@s3()
def transfers_a_file(side: Side) -> Any:
    name = str(Path(__file__))
    side.client.upload_file(name, "bucket", "file", ExtraArgs={"ContentType": "text/plain"})
    return side.client.head_object(Bucket="bucket", Key="file")["ContentType"]


@s3()
def presigned(side: Side) -> Any:
    url = side.client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
    post = side.client.generate_presigned_post("bucket", "k")
    return url.partition("?")[0], sorted(post["fields"])


@s3()
def meta(side: Side) -> Any:
    found = side.client.meta
    return (
        found.region_name, found.service_model.service_name, found.method_to_api_mapping["get_object"],
        found.config.retries, found is side.client.meta, found.partition, type(found).__name__,
        sorted(found.endpoint_url)[:1], found.config.connect_timeout,
    )  # fmt: skip


@s3()
def events(side: Side) -> Any:
    seen: list[str] = []

    def told(event_name: str, **more: Any) -> None:
        seen.append(event_name)

    side.client.meta.events.register("before-call.s3", told)
    side.client.list_buckets()
    side.client.meta.events.unregister("before-call.s3", told)
    side.client.list_buckets()
    return seen


@s3()
def handlers(side: Side) -> Any:
    emitter = side.client.meta.events._emitter
    return len(list(emitter._handlers.prefix_search("before-send.s3.GetObject")))


@s3()
def identity(side: Side) -> Any:
    client = side.client
    return (
        client == client, client in [client], {client: 1}[client], client.__class__.__name__,
        client.get_object == client.get_object, client.get_object.__name__, hasattr(client, "nothing"),
        isinstance(client, botocore.client.BaseClient), client.get_object.__self__ is client,
    )  # fmt: skip


@s3()
def missing(side: Side) -> Any:
    return side.client.there_is_no_such_name


@s3()
def copied(side: Side) -> Any:
    return len(copy.copy(side.client).list_buckets()["Buckets"])


@s3()
def pickled(side: Side) -> Any:
    return type(pickle.loads(pickle.dumps(side.client)))


@s3()
def closed(side: Side) -> Any:
    return side.client.close(), len(side.client.list_buckets()["Buckets"])


@s3(error=errors)
def entered(side: Side, error: Any) -> Any:
    with side.client:
        raise error or KeyError("none")


# -- DynamoDB ---------------------------------------------


values = st.sampled_from(
    [{"S": "x"}, {"N": "5"}, {"L": [{"BOOL": True}]}, {"N": "no number"}, "x", {"B": b"\x00"}]
)


@dynamodb(key=keys, value=values)
def put_item(side: Side, key: str, value: Any) -> Any:
    return plain(side.client.put_item(TableName="t", Item={"k": {"S": key}, "v": value}))


@dynamodb(key=keys, table=st.sampled_from(["t", "t", "missing"]))
def get_item(side: Side, key: str, table: str) -> Any:
    return plain(side.client.get_item(TableName=table, Key={"k": {"S": key}}))


@dynamodb(key=keys)
def conditional(side: Side, key: str) -> Any:
    try:
        side.client.put_item(
            TableName="t", Item={"k": {"S": key}}, ConditionExpression="attribute_not_exists(k)"
        )
    except side.client.exceptions.ConditionalCheckFailedException as error:
        return plain(error.response), str(error)


@dynamodb(key=keys, by=st.sampled_from(["1", "x"]))
def update_item(side: Side, key: str, by: str) -> Any:
    return plain(
        side.client.update_item(
            TableName="t", Key={"k": {"S": key}}, UpdateExpression="ADD n :by",
            ExpressionAttributeValues={":by": {"N": by}}, ReturnValues="ALL_NEW",
        )
    )  # fmt: skip


@dynamodb(size=st.integers(1, 3))
def scan_pages(side: Side, size: int) -> Any:
    found = side.client.get_paginator("scan").paginate(
        TableName="t", PaginationConfig={"PageSize": size}
    )
    return sorted(item["k"]["S"] for page in found for item in page["Items"])


@dynamodb()
def transact(side: Side) -> Any:
    return side.client.transact_write_items(
        TransactItems=[
            {
                "Put": {
                    "TableName": "t",
                    "Item": {"k": {"S": "a"}},
                    "ConditionExpression": "attribute_exists(zz)",
                }
            }
        ]
    )


@dynamodb()
def waits_for_the_table(side: Side) -> Any:
    return side.client.get_waiter("table_exists").wait(TableName="t")


@dynamodb()
def describes(side: Side) -> Any:
    return plain(side.client.describe_table(TableName="t"))["Table"]["KeySchema"]


# -- the tests ---------------------------------------------


def scrub(text: str) -> str:
    text = re.sub(r"transparency-\d+", "<policy>", text)
    return re.sub(
        r"(?i)(request ?id:? ?|Signature=|Credential=)[\w/-]+|[A-Za-z0-9]{40,}", "<id>", text
    )


@functools.cache
def session() -> Any:
    return boto3.session.Session()


def client_of(server: MotoServer, service: str) -> Any:
    return session().client(
        service, endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip


@functools.cache
def control(server: MotoServer, service: str) -> Any:
    """Return a client for the tests themselves."""
    return client_of(server, service)


def world(server: MotoServer, service: str) -> Any:
    client = control(server, service)
    if service == "s3":
        found = client.list_objects_v2(Bucket="bucket").get("Contents", [])
        return [(each["Key"], each["Size"], each["ETag"]) for each in found]
    return sorted(client.scan(TableName="t")["Items"], key=repr)


def prepare(server: MotoServer, service: str) -> None:
    server.clear()
    client = control(server, service)
    if service == "s3":
        client.create_bucket(Bucket="bucket")
        return
    client.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def played(server: MotoServer, steps: Any, mode: str | None, service: str) -> Any:
    prepare(server, service)
    client = client_of(server, service)
    used = client if mode is None else policy_of("boto3", mode).wrap(client)
    log = play(Side(used, mode is not None), steps, scrub)
    pools = client._endpoint.http_session._manager.pools
    state = [pools[key].num_connections > 0 for key in pools.keys()], sorted(vars(client))  # noqa: SIM118 - it refuses to be iterated
    log.append(("at the end", {}, state, world(server, service)))
    client.close()
    return log


@pytest.mark.parametrize("mode", MODES)
@few(max_examples=8)
@given(steps=s3.sequences(most=12))
def test_a_sequence_of_s3_comes_to_the_same(moto_server: MotoServer, mode: str, steps: Any) -> None:
    bare = played(moto_server, steps, None, "s3")
    same("boto3", bare, played(moto_server, steps, mode, "s3"))


@pytest.mark.parametrize("mode", MODES)
@few(max_examples=5)
@given(steps=dynamodb.sequences(most=12))
def test_a_sequence_of_dynamodb_comes_to_the_same(
    moto_server: MotoServer, mode: str, steps: Any
) -> None:
    bare = played(moto_server, steps, None, "dynamodb")
    same("boto3", bare, played(moto_server, steps, mode, "dynamodb"))


@pytest.mark.parametrize("mode", MODES)
def test_it_looks_the_same(moto_server: MotoServer, mode: str) -> None:
    bare, inner = client_of(moto_server, "s3"), client_of(moto_server, "s3")
    prepare(moto_server, "s3")
    bare.put_object(Bucket="bucket", Key="a", Body=b"abc")
    wrapped = policy_of("boto3", mode).wrap(inner)
    found = []
    for name, get in {
        "S3": lambda client: client,
        "Paginator": lambda client: client.get_paginator("list_objects_v2"),
        "PageIterator": lambda client: client.get_paginator("list_objects_v2").paginate(
            Bucket="bucket"
        ),
        "Waiter": lambda client: client.get_waiter("bucket_exists"),
        "exceptions": lambda client: client.exceptions,
        "meta": lambda client: client.meta,
        "method get_object": lambda client: client.get_object,
        "StreamingBody": lambda client: client.get_object(Bucket="bucket", Key="a")["Body"],
    }.items():
        found += inspect_pair("boto3", get(bare), get(wrapped), name)
    bare.close()
    inner.close()
    assert not found, "\n".join(found)
