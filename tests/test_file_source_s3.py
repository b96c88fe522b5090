"""A prefix of an S3 bucket as a source of files, on moto's server."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from examples.free_ports import free_port
from pipeline.errors import Refused
from tests.fix_files import MakeTaking
from tests.waiting import wait_for

REGION = "eu-central-1"


def _serve(port: int = 0) -> ThreadedMotoServer:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


def _bucket(server: ThreadedMotoServer) -> Any:
    host, port = server.get_host_and_port()
    urlopen(f"http://{host}:{port}/moto-api/reset", b"").close()  # what it keeps is the process's
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name=REGION, aws_access_key_id="me", aws_secret_access_key="very-secret"
    )
    client.create_bucket(Bucket="drops", CreateBucketConfiguration={"LocationConstraint": REGION})
    return client


def _block(server: ThreadedMotoServer) -> dict[str, Any]:
    host, port = server.get_host_and_port()
    s3 = {"endpoint": f"http://{host}:{port}", "region": REGION, "access_key": "me", "secret_key": "very-secret"}
    return {"path": "s3://drops/in/orders", "pattern": "*.csv*", "s3": s3}


@pytest.fixture
def server() -> Iterator[ThreadedMotoServer]:
    made = _serve()
    yield made
    made.stop()


def test_objects_under_a_prefix_are_read_once_in_order(server: ThreadedMotoServer, make_taking: MakeTaking) -> None:
    s3 = _bucket(server)
    s3.put_object(Bucket="drops", Key="in/orders/b.csv", Body=b"id,name\n2,b\nbad,c\n")
    s3.put_object(Bucket="drops", Key="in/orders/a.csv.gz", Body=gzip.compress(b"id,name\n1,a\n"))
    for other in ("in/orders/deep/x.csv", "in/orders/y.csv.tmp", "in/orders/.z.csv", "in/other.csv"):
        s3.put_object(Bucket="drops", Key=other, Body=b"id,name\n9,x\n")
    taking = make_taking(**_block(server)).until_read()
    assert sorted(taking.ids, key=str) == ["1", "2"]
    assert [one.place for one in taking.bad] == [{"file": "b.csv", "line": 3}]
    s3.put_object(Bucket="drops", Key="in/orders/b.csv", Body=b"id,name\n2,b\n3,c\n")
    s3.put_object(Bucket="drops", Key="in/orders/c.csv", Body=b"id,name\n4,d\n")
    taking.until_read()
    taking.kill()
    taking.until_read()
    assert sorted(taking.ids, key=str) == ["1", "2", "4"]
    assert taking.source is not None
    assert "b.csv changed" in (taking.source.status().tables["drops"].error or "")


def test_folders_below_a_prefix_are_read_where_the_pattern_says_so(server: ThreadedMotoServer, make_taking: MakeTaking) -> None:
    s3 = _bucket(server)
    s3.put_object(Bucket="drops", Key="in/orders/2026/01/a.csv", Body=b"id,name\n1,a\n")
    taking = make_taking(**{**_block(server), "pattern": "**/*.csv"}).until_read()
    assert taking.places == [{"file": "2026/01/a.csv", "line": 2}]


def test_what_the_block_leaves_out_comes_from_the_environment(
    server: ThreadedMotoServer, make_taking: MakeTaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bucket(server).put_object(Bucket="drops", Key="a.csv", Body=b"id,name\n1,a\n")
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "very-secret",
    }.items():
        monkeypatch.setenv(name, value)
    assert make_taking(path="s3://drops").until_read().ids == ["1"]


def test_a_bucket_that_is_not_there_stops_the_source_and_tells_no_secret(server: ThreadedMotoServer, make_taking: MakeTaking) -> None:
    block = {**_block(server), "path": "s3://elsewhere/in"}
    taking = make_taking(**block)
    source = taking.start()
    with pytest.raises(Refused, match="s3://elsewhere/in cannot be read") as caught:
        source.take(10)
    assert "NO_SUCH_BUCKET" in str(caught.value)
    assert "very-secret" not in str(caught.value) + repr(source.config)


def test_a_service_that_is_away_is_waited_for(server: ThreadedMotoServer, make_taking: MakeTaking) -> None:
    _bucket(server).put_object(Bucket="drops", Key="in/orders/a.csv", Body=b"id,name\n1,a\n")
    port = free_port()
    block = _block(server)
    taking = make_taking(**{**block, "s3": {**block["s3"], "endpoint": f"http://127.0.0.1:{port}"}})
    source = taking.start()
    assert "s3://drops/in/orders cannot be read" in taking.until("retrying")
    back = _serve(port)  # what the two servers keep is the process's
    try:
        wait_for(lambda: taking.take() and taking.ids, message=lambda: f"the object; {source.status()}")
        assert taking.ids == ["1"]
    finally:
        taking.kill()
        back.stop()
