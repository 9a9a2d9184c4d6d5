"""boto3 against moto's server, wrapped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import botocore.exceptions as errors
import pytest
from botocore.config import Config

import resilient
from tests.integration.clients import http_kit
from tests.integration.clients.kit import (
    MODES,
    Left,
    Load,
    check_at_rest,
    check_released,
    counted,
    life_story,
    make_policy,
    outcome,
    plain,
    timed,
)
from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.moto_server import MotoServer
from tests.kit.waiting import until

LIMIT = 3.0  # moto answers in Python, and slowly
SLACK = {"cooperative": 0.5, "thread": 0.5}  # seconds over a call's limit

mode = pytest.mark.parametrize("mode", MODES)


# -- the life story ---------------------------------------------


@mode
def test_life_story(moto_server: MotoServer, mode: str) -> None:
    left = Left()
    policy = make_policy(mode, name="s3", limit=LIMIT)
    client = policy.wrap(moto_server.client("s3", max_pool_connections=8))
    life_story(
        moto_server, policy, Load(client.list_buckets, 4), slack=SLACK[mode], limit=LIMIT,
        allowed=(errors.HTTPClientError, errors.ConnectionError),
    )  # fmt: skip
    client.close()
    left.check(collect=True)  # urllib3 leaves cycles at a timeout


# -- whose fault ---------------------------------------------


def code_of(error: Any) -> str:
    return error.response["Error"]["Code"]


OWN = {
    "NoSuchKey": lambda s3: s3.get_object(Bucket="kept", Key="nothing"),
    "NoSuchBucket": lambda s3: s3.list_objects_v2(Bucket="nowhere"),
    "404": lambda s3: s3.head_object(Bucket="kept", Key="nothing"),
    "NoSuchUpload": lambda s3: s3.list_parts(Bucket="kept", Key="k", UploadId="x"),
    "BucketNotEmpty": lambda s3: s3.delete_bucket(Bucket="kept"),
}


@mode
def test_the_callers_own_errors(moto_server: MotoServer, mode: str) -> None:
    policy = make_policy(mode, limit=5.0)
    bare = moto_server.client("s3")
    client = policy.wrap(bare)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="something", Body=b"x")
    with counted(policy) as found:
        for code, ask in OWN.items():
            with pytest.raises(errors.ClientError) as alone:
                ask(bare)
            for _ in range(5):
                with pytest.raises(type(alone.value)) as raised:
                    ask(client)
                assert code_of(raised.value) == code
        for _ in range(20):
            with pytest.raises(errors.ParamValidationError):
                client.get_object(Bucket="kept")
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket="kept", Key="nothing")
    assert set(found) == {"ignored"}, found
    assert policy.state == "closed"
    bare.close()


@mode
@pytest.mark.parametrize("status", [429, 500, 503])
def test_failures_of_the_service(http_server: HttpServer, mode: str, status: int) -> None:
    # An AWS that says only one thing: moto is never unwell.
    policy = make_policy(mode, limit=5.0, failures=100)
    with client_of(f"{http_server.url}/status/{status}") as bare:
        found, error = outcome(policy, lambda: policy.wrap(bare).list_buckets())
    assert isinstance(error, errors.ClientError), error
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert found == {"failure": 1}


@mode
@pytest.mark.parametrize("path", ["/reset", "/close", "/garbage"])
def test_broken_connections_fail(http_server: HttpServer, mode: str, path: str) -> None:
    policy = make_policy(mode, limit=5.0, failures=100)
    with client_of(http_server.url + path) as bare:
        with pytest.raises(Exception) as alone:
            bare.list_buckets()
        found, error = outcome(policy, lambda: policy.wrap(bare).list_buckets())
    assert (found, type(error)) == ({"failure": 1}, type(alone.value))


def test_throttling_is_a_failure() -> None:
    from resilient.integrations.boto3 import callers_fault

    def error(code: str, status: int) -> errors.ClientError:
        said = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return errors.ClientError(said, "Operation")

    for code in ("ThrottlingException", "ProvisionedThroughputExceededException", "SlowDown",
                 "RequestLimitExceeded", "TooManyRequestsException"):  # fmt: skip
        assert not callers_fault(error(code, 400))
        assert not callers_fault(error(code, 503))
    assert not callers_fault(error("InternalError", 500))
    assert callers_fault(error("AccessDenied", 403))
    assert callers_fault(error("ConditionalCheckFailedException", 400))


SESSION = boto3.session.Session()  # what it knows of a service it reads once


@contextmanager
def client_of(url: str, service: str = "s3", **config: Any) -> Iterator[Any]:
    """Give a client of what answers at a URL."""
    config.setdefault("retries", {"total_max_attempts": 1})
    client = SESSION.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing",
        aws_secret_access_key="testing", config=Config(**config),
    )  # fmt: skip
    yield client
    client.close()


# -- deadlines, the library's own limits, its retries ---------------------------------------------


@mode
@pytest.mark.parametrize("path", http_kit.TIMEOUTS)
def test_the_deadline_ends_it(http_server: HttpServer, mode: str, path: str) -> None:
    left = Left(http_server.connections)
    policy = make_policy(mode)
    outer = make_policy("cooperative", limit=0.2)
    with client_of(http_server.url + path.partition("?")[0]) as bare:
        client = policy.wrap(bare)
        with timed(LIMIT + SLACK[mode], 0.25):
            found, error = outcome(policy, client.list_buckets)
        assert (found, plain(error)) == ({"failure": 1}, resilient.CallTimeoutError)
        check_released(policy)
        with timed(0.2 + SLACK[mode], 0.15), pytest.raises(resilient.CallTimeoutError) as raised:
            outer.call(client.list_buckets)
        assert raised.value.policy == outer.name
        check_released(policy)
    del error, raised
    left.check(collect=True)  # urllib3 leaves cycles at a timeout


@mode
def test_a_shorter_limit_of_its_own_stays(http_server: HttpServer, mode: str) -> None:
    policy = make_policy(mode, limit=5.0)
    with client_of(f"{http_server.url}/hang", read_timeout=0.2) as bare:
        with timed(0.2 + SLACK[mode], 0.15):
            found, error = outcome(policy, policy.wrap(bare).list_buckets)
        assert (found, type(error)) == ({"failure": 1}, errors.ReadTimeoutError)


@mode
@pytest.mark.parametrize("retry_mode", ["legacy", "standard"])
@pytest.mark.parametrize("path", ["/status/503", "/close", "/hang"])
def test_its_retries_end_with_the_deadline(
    http_server: HttpServer, mode: str, path: str, retry_mode: str
) -> None:
    policy = make_policy(mode)
    retries = {"total_max_attempts": 6, "mode": retry_mode}
    with client_of(http_server.url + path, retries=retries) as bare:
        with timed(LIMIT + SLACK[mode]):
            found, error = outcome(policy, policy.wrap(bare).list_buckets)
        assert found == {"failure": 1}
        assert isinstance(
            error, (resilient.CallTimeoutError, errors.BotoCoreError, errors.ClientError)
        )
        check_released(policy)


# -- pages, bodies, waiters ---------------------------------------------


@mode
def test_pages(moto_server: MotoServer, mode: str) -> None:
    policy = make_policy(mode, limit=2.0)
    bare = moto_server.client("s3")
    client = policy.wrap(bare)
    client.create_bucket(Bucket="kept")
    for n in range(5):
        client.put_object(Bucket="kept", Key=f"key{n}", Body=b"x")

    def paginate() -> Any:
        paginator = client.get_paginator("list_objects_v2")
        return paginator.paginate(Bucket="kept", PaginationConfig={"PageSize": 2})

    with counted(policy) as found:
        keys = [each["Key"] for page in paginate() for each in page["Contents"]]
    assert keys == [f"key{n}" for n in range(5)]
    assert set(found) <= {"success", "ignored"}, found
    assert paginate().build_full_result()["Contents"][4]["Key"] == "key4"
    assert len(list(paginate().search("Contents[].Key"))) == 5
    items = iter(paginate())
    next(items)
    moto_server.stop()
    try:
        with timed(2.0 + SLACK[mode], 1.5):
            found, error = outcome(policy, partial(next, items))
        assert isinstance(error, resilient.CallTimeoutError), error
        assert found == {"failure": 1}
    finally:
        moto_server.cont()

    check_released(policy)
    bare.close()


@mode
def test_bodies(moto_server: MotoServer, mode: str) -> None:
    left = Left()
    policy = make_policy(mode, limit=2.0)
    client = policy.wrap(moto_server.client("s3"))
    client.create_bucket(Bucket="kept")
    data = bytes(range(256)) * 4096
    client.put_object(Bucket="kept", Key="big", Body=data)
    assert client.get_object(Bucket="kept", Key="big")["Body"].read() == data
    body = client.get_object(Bucket="kept", Key="big")["Body"]
    assert b"".join(body.iter_chunks(65536)) == data
    with client.get_object(Bucket="kept", Key="big")["Body"] as body:
        assert body.read(10) == data[:10]
    target = io.BytesIO()
    client.download_fileobj("kept", "big", target)
    assert target.getvalue() == data
    client.upload_fileobj(io.BytesIO(data), "kept", "again")
    check_at_rest(policy)
    client.close()
    left.check()


def test_a_body_hangs_no_longer_than_the_deadline(http_server: HttpServer) -> None:
    policy = make_policy("cooperative")
    with client_of(f"{http_server.url}/hang-body") as bare:
        client = policy.wrap(bare)
        with (
            timed(2 * LIMIT + SLACK["cooperative"]),
            pytest.raises((resilient.CallTimeoutError, errors.ReadTimeoutError)),
        ):
            client.get_object(Bucket="kept", Key="big")["Body"].read()
        check_at_rest(policy)


@mode
def test_waiters(moto_server: MotoServer, mode: str) -> None:
    policy = make_policy(mode, limit=1.0)
    bare = moto_server.client("s3")
    client = policy.wrap(bare)
    client.create_bucket(Bucket="kept")
    client.get_waiter("bucket_exists").wait(Bucket="kept")
    with timed(1.0 + SLACK[mode]), counted(policy):
        with pytest.raises((resilient.CallTimeoutError, errors.WaiterError)):
            client.get_waiter("object_exists").wait(
                Bucket="kept", Key="nothing", WaiterConfig={"Delay": 0.2, "MaxAttempts": 50}
            )
    check_released(policy)
    with pytest.raises(errors.WaiterError):
        client.get_waiter("object_exists").wait(
            Bucket="kept", Key="nothing", WaiterConfig={"Delay": 0.05, "MaxAttempts": 2}
        )
    bare.close()


# -- release ---------------------------------------------


def test_abandoned_workers_end_while_the_server_is_frozen(moto_server: MotoServer) -> None:
    left = Left()
    policy = make_policy("thread", failures=100, limit=LIMIT)
    client = policy.wrap(moto_server.client("s3"))
    with Load(client.list_buckets, 4) as load:
        until(lambda: load.good(0) >= 8)
        moto_server.stop()
        until(lambda: load.kinds()["CallTimeoutError"] >= 4)
    check_released(policy)
    moto_server.cont()
    client.close()
    left.check(collect=True)  # urllib3 leaves cycles at a timeout
