"""The policies of terraform/aws, rendered by Terraform, tried out on a server that obeys them.

moto, with its checks switched on, verifies signatures and looks at action and resource of each
statement, so that a migration runs here with a role's rights and with no others. It ignores every
Condition, and it answers "not found" even to somebody who may not list. What conditions say about
listings is therefore held against the requests of a migration by rules of our own, further down.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
import requests

import cloudimg
from cloudimg.cluster.ecs import EcsLauncher
from cloudimg.cluster.tls import JobTls, decrypt, encrypt
from cloudimg.errors import AccessDeniedError, ClusterError
from cloudimg.storage.connections import forget_connections
from tests.support import copies, seed
from tests.support.metering import REGION, Meter
from tests.support.servers import moto_server

pytestmark = pytest.mark.slow  # all of them together

MODULE = Path(__file__).resolve().parents[2] / "terraform" / "aws" / "modules" / "policies"
ACCOUNT = "123456789012"
SHAPE = {"chunks": 32, "shards": {"t": 1, "c": 1, "z": 10, "y": 64, "x": 96}, "levels": 2}
EVERYWHERE = "on-everything"
"""Part of the names of roles that may do what others may, on all resources: outside of S3, moto
compares actions, and refuses what is allowed on some resources only."""
ROLES = ("execution", "scheduler", "worker", "driver")


def arn(service: str, rest: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


VARIABLES: dict[str, Any] = {
    "partition": "aws",
    "region": REGION,
    "account_id": ACCOUNT,
    "source_bucket": "source",
    "source_prefix": "scans/",
    "destination_bucket": "destination",
    "destination_prefix": "zarr/",
    "parameter_prefix": "/cloudimg/lab",
    "cluster_name": "lab",
    "cluster_arn": arn("ecs", "cluster/lab"),
    "repository_arn": arn("ecr", "repository/lab"),
    "log_group_arn": arn("logs", "log-group:/cloudimg/lab"),
    "task_definitions": [arn("ecs", f"task-definition/lab-{n}:1") for n in ("scheduler", "worker")],
    "passed_roles": [f"arn:aws:iam::{ACCOUNT}:role/lab-{name}" for name in ROLES[:3]],
    "driver_principals": [],
}

Statement = dict[str, Any]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every policy as JSON text, by its name."""
    program = shutil.which("terraform")
    if program is None:
        pytest.skip("there is no terraform to render the policies")
    folder = tmp_path_factory.mktemp("terraform") / "policies"
    shutil.copytree(MODULE, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    (folder / "terraform.tfvars.json").write_text(json.dumps(VARIABLES))
    # The user's own settings: other values, working folders, mirrors.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment |= {"CHECKPOINT_DISABLE": "1"}

    def terraform(*arguments: str) -> str:
        done = subprocess.run(
            [program, f"-chdir={folder}", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    terraform("init", "-backend=false", "-input=false", "-no-color")
    terraform("apply", "-auto-approve", "-input=false", "-no-color")
    found = json.loads(terraform("output", "-json"))
    return {name: output["value"] for name, output in found.items()}


def statements(policy: str) -> list[Statement]:
    found = json.loads(policy)
    assert found["Version"] == "2012-10-17"
    return list(found["Statement"])


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


# ---------------------------------------------------------------------------------- as text


def test_actions_and_resources_are_named(policies: dict[str, str]) -> None:
    """No action with a wildcard, and no resource that is not limited to this cluster's own."""
    on_everything = []
    for name in (*ROLES, "endpoint"):
        for statement in statements(policies[name]):
            assert statement["Effect"] == "Allow"
            assert not {"NotAction", "NotResource", "NotPrincipal"} & set(statement)
            assert not any("*" in action for action in as_list(statement["Action"])), statement
            for resource in as_list(statement["Resource"]):
                if resource == "*":
                    on_everything.append(statement["Action"])
                else:
                    assert is_limited(resource), resource
    # Amazon knows this one on * only.
    assert on_everything == ["ecr:GetAuthorizationToken"]


def is_limited(resource: str) -> bool:
    """Whether a wildcard comes only after the name of something that belongs to this cluster."""
    owned = (
        "arn:aws:s3:::source/scans/",
        "arn:aws:s3:::destination/zarr/",
        f"arn:aws:s3:::prod-{REGION}-starport-layer-bucket/",
        arn("ssm", "parameter/cloudimg/lab/"),
        arn("logs", "log-group:/cloudimg/lab:"),
        arn("ecs", "task/lab/"),
        arn("ecs", "container-instance/lab/"),
    )
    fixed, star, _ = resource.partition("*")
    return not star or fixed in owned


def test_only_the_driver_deletes_and_only_in_the_destination(policies: dict[str, str]) -> None:
    deleting = [
        (name, resource)
        for name in policies
        for statement in statements(policies[name])
        if statement["Effect"] == "Allow"
        and any(action.startswith("s3:Delete") for action in as_list(statement["Action"]))
        for resource in as_list(statement.get("Resource", []))
    ]
    inside = "arn:aws:s3:::destination/zarr/*"
    assert sorted(deleting) == [("driver", inside), ("endpoint", inside)]


def test_who_may_take_which_role(policies: dict[str, str]) -> None:
    (tasks,) = statements(policies["trust_tasks"])
    assert tasks["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert tasks["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    (driver,) = statements(policies["trust_driver"])
    assert driver["Principal"] == {"AWS": [f"arn:aws:iam::{ACCOUNT}:root"]}


# ------------------------------------------------------------------------- on a server that obeys


@dataclass(frozen=True)
class Guarded:
    """An S3 server that lets nobody do what no policy allows."""

    endpoint: str
    keys: dict[str, dict[str, str]] = field(repr=False)
    """Of the administrator and of a session of each role, as boto3 takes them."""

    def client(self, who: str, service: str = "s3") -> Any:
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=REGION, **self.keys[who]
        )

    def options(self, who: str) -> dict[str, Any]:
        """For fsspec's s3fs."""
        client = {"endpoint_url": self.endpoint, "region_name": REGION}
        return {"client_kwargs": {**client, **self.keys[who]}}


@pytest.fixture(scope="module")
def guarded(policies: dict[str, str]) -> Iterator[Guarded]:
    with moto_server() as endpoint:
        yield prepare(endpoint, policies)


def prepare(endpoint: str, policies: dict[str, str]) -> Guarded:
    """Buckets, roles and their sessions; from then on the server checks every request."""
    anybody = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    iam, sts, s3 = (
        boto3.client(service, endpoint_url=endpoint, region_name=REGION, **anybody)
        for service in ("iam", "sts", "s3")
    )
    for bucket in ("source", "destination", "elsewhere"):
        s3.create_bucket(Bucket=bucket)
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    iam.create_user(UserName="admin")
    iam.put_user_policy(
        UserName="admin",
        PolicyName="all",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [everything]}),
    )
    key = iam.create_access_key(UserName="admin")["AccessKey"]
    keys = {
        "admin": {
            "aws_access_key_id": key["AccessKeyId"],
            "aws_secret_access_key": key["SecretAccessKey"],
        }
    }
    documents = {name: policies[name] for name in ("scheduler", "worker", "driver")}
    for name in ("scheduler", "worker"):
        everywhere = [{**each, "Resource": "*"} for each in statements(policies[name])]
        documents[f"{name}-{EVERYWHERE}"] = json.dumps(
            {"Version": "2012-10-17", "Statement": everywhere}
        )
    for name, document in documents.items():
        trust = policies["trust_driver" if name == "driver" else "trust_tasks"]
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=document)
        session = sts.assume_role(RoleArn=role, RoleSessionName=name)["Credentials"]
        keys[name] = {
            "aws_access_key_id": session["AccessKeyId"],
            "aws_secret_access_key": session["SecretAccessKey"],
            "aws_session_token": session["SessionToken"],
        }
    # From the first request on.
    requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", timeout=60).raise_for_status()
    for client in (iam, sts, s3):
        client.close()
    return Guarded(endpoint, keys)


@pytest.fixture(scope="module")
def archive(guarded: Guarded) -> str:
    """The seed below the source's prefix; no test changes it, or the refusal did not work."""
    admin = guarded.client("admin")
    seed.write(lambda key, data: admin.put_object(Bucket="source", Key=f"scans/{key}", Body=data))
    admin.close()
    return f"s3://source/scans/{seed.PATTERN}"


@pytest.fixture
def beside(guarded: Guarded, archive: str) -> None:
    """Objects next to what the roles have to do with, as they were before each test."""
    admin = guarded.client("admin")
    for bucket, key in (
        ("source", "private/secret.tif"),
        ("source", "scans-private/secret.tif"),
        ("elsewhere", "scans/secret.tif"),
        ("elsewhere", "zarr/secret.tif"),
        ("destination", "reports/secret.tif"),
        ("destination", "zarr/mine.json"),
    ):
        admin.put_object(Bucket=bucket, Key=key, Body=b"secret")
    admin.close()


def migrate(source: str, url: str, options: dict[str, Any], **arguments: Any) -> Any:
    return cloudimg.migrate(
        source,
        url,
        source_options=options,
        target_options=options,
        **{**SHAPE, **arguments},
    )


def test_the_server_checks_at_all(guarded: Guarded, beside: None) -> None:
    """What the tests below rest on: unsigned and wrongly signed requests are refused."""
    client = guarded.client("admin")
    assert client.get_object(Bucket="elsewhere", Key="scans/secret.tif")["Body"].read() == b"secret"
    client.close()
    wrong = {**guarded.keys["worker"], "aws_secret_access_key": "guessed"}
    impostor = Guarded(guarded.endpoint, {"impostor": wrong}).client("impostor")
    with pytest.raises(botocore.exceptions.ClientError, match="SignatureDoesNotMatch"):
        impostor.list_objects_v2(Bucket="source", Prefix="scans/")
    impostor.close()


@pytest.mark.parametrize("backend", ["", "fsspec"])
def test_a_migration_needs_no_more_than_a_worker_has(
    guarded: Guarded, archive: str, set_variable: Callable[[str, str], None], backend: str
) -> None:
    """Plan, lease, shards, receipts, metadata: nothing of it needs the right to delete."""
    set_variable("CLOUDIMG_BACKEND", backend)
    forget_connections()
    options = guarded.options("worker")
    url = f"s3://destination/zarr/copy-{backend}.ome.zarr"
    done = migrate(archive, url, options)
    assert (done.n_cells, done.n_done_before) == (4, 0)
    proof = cloudimg.verify(
        url, against_source=True, storage_options=options, source_options=options
    )
    assert proof, str(proof)
    assert proof.n_compared == 4
    again = migrate(archive, url, options)  # which takes over the lease of the first
    assert (again.n_done_before, again.n_objects) == (4, 0)


REFUSED_TO_WORKERS = [
    ("get_object", "elsewhere", "scans/secret.tif"),
    ("get_object", "elsewhere", "zarr/secret.tif"),
    ("get_object", "source", "private/secret.tif"),
    ("get_object", "source", "scans-private/secret.tif"),
    ("get_object", "destination", "reports/secret.tif"),
    ("put_object", "source", "scans/mydata_ch0_0t_0x_0y_0z.tif"),
    ("put_object", "destination", "reports/secret.tif"),
    ("put_object", "elsewhere", "zarr/secret.tif"),
    ("delete_object", "destination", "zarr/mine.json"),
    ("delete_object", "source", "scans/mydata_ch0_0t_0x_0y_0z.tif"),
]


@pytest.mark.parametrize(("action", "bucket", "key"), REFUSED_TO_WORKERS)
def test_what_workers_may_not(
    guarded: Guarded, beside: None, action: str, bucket: str, key: str
) -> None:
    admin = guarded.client("admin")
    before = admin.get_object(Bucket=bucket, Key=key)["Body"].read()
    refuse(guarded, "worker", action, bucket, key)
    assert admin.get_object(Bucket=bucket, Key=key)["Body"].read() == before
    admin.close()


def refuse(guarded: Guarded, who: str, action: str, bucket: str, key: str) -> None:
    client = guarded.client(who)
    more = {"Body": b"changed"} if action == "put_object" else {}
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        getattr(client, action)(Bucket=bucket, Key=key, **more)
    client.close()
    assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_workers_list_no_other_bucket(guarded: Guarded) -> None:
    client = guarded.client("worker")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client.list_objects_v2(Bucket="elsewhere", Prefix="scans/")
    client.close()


def test_refusals_reach_the_user_as_such(guarded: Guarded, archive: str) -> None:
    options = guarded.options("worker")
    with pytest.raises(AccessDeniedError, match="s3://destination/reports/copy"):
        migrate(archive, "s3://destination/reports/copy.ome.zarr", options)
    with pytest.raises(AccessDeniedError, match="s3://elsewhere/scans"):
        migrate(
            f"s3://elsewhere/scans/{seed.PATTERN}", "s3://destination/zarr/no.ome.zarr", options
        )


@pytest.mark.parametrize(
    ("action", "bucket", "key"),
    [
        ("get_object", "source", "scans/mydata_ch0_0t_0x_0y_0z.tif"),
        ("get_object", "destination", "zarr/mine.json"),
        ("put_object", "destination", "zarr/mine.json"),
    ],
)
def test_schedulers_have_no_data(
    guarded: Guarded, beside: None, action: str, bucket: str, key: str
) -> None:
    refuse(guarded, "scheduler", action, bucket, key)


def test_the_driver_replaces_a_copy(
    guarded: Guarded, archive: str, set_variable: Callable[[str, str], None]
) -> None:
    """Which deletes, as workers cannot.

    By s3fs, which deletes one by one: moto looks at a bulk request for the bucket's right alone.
    """
    set_variable("CLOUDIMG_BACKEND", "fsspec")
    forget_connections()
    options = guarded.options("driver")
    url = "s3://destination/zarr/replaced.ome.zarr"
    migrate(archive, url, options)
    before = set(copies.objects(url, guarded.options("admin")))
    with pytest.raises(AccessDeniedError, match="delete s3://destination/zarr/replaced"):
        migrate(archive, url, guarded.options("worker"), overwrite=True, levels=1)
    migrate(archive, url, options, overwrite=True, levels=1)
    after = set(copies.objects(url, guarded.options("admin")))
    assert any(key.startswith("1/") for key in before)
    assert not any(key.startswith("1/") for key in after)


@pytest.mark.parametrize(
    ("action", "bucket", "key"),
    [
        ("delete_object", "source", "scans/mydata_ch0_0t_0x_0y_0z.tif"),
        ("put_object", "source", "scans/mydata_ch0_0t_0x_0y_0z.tif"),
        ("delete_object", "destination", "reports/secret.tif"),
        ("delete_object", "elsewhere", "zarr/secret.tif"),
        ("get_object", "source", "private/secret.tif"),
    ],
)
def test_what_the_driver_may_not(
    guarded: Guarded, beside: None, action: str, bucket: str, key: str
) -> None:
    refuse(guarded, "driver", action, bucket, key)


def test_the_driver_deletes_in_the_destination(guarded: Guarded, beside: None) -> None:
    client = guarded.client("driver")
    client.delete_object(Bucket="destination", Key="zarr/mine.json")
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="destination", Key="zarr/mine.json")
    client.close()


ANOTHER_JOB = "/cloudimg/lab/another-job"
DRIVER = f"arn:aws:iam::{ACCOUNT}:role/driver"
TELLING: list[tuple[str, str, dict[str, Any]]] = [
    ("ecs", "describe_tasks", {"cluster": "lab", "tasks": ["t"]}),
    ("ecs", "list_tasks", {"cluster": "lab"}),
    ("ecs", "describe_task_definition", {"taskDefinition": "lab-worker"}),
    ("ecs", "run_task", {"cluster": "lab", "taskDefinition": "lab-worker"}),
    ("ssm", "get_parameters", {"Names": [f"{ANOTHER_JOB}/client"]}),
    ("ssm", "get_parameters_by_path", {"Path": ANOTHER_JOB, "Recursive": True}),
    ("ssm", "get_parameter_history", {"Name": f"{ANOTHER_JOB}/client"}),
    ("ssm", "describe_parameters", {}),
    ("sts", "assume_role", {"RoleArn": DRIVER, "RoleSessionName": "task"}),
    ("iam", "get_role_policy", {"RoleName": "driver", "PolicyName": "driver"}),
]  # fmt: skip
"""Requests whose answers would tell a secret of another job, or give the rights to ask for it."""


@pytest.fixture(scope="module")
def another_job(guarded: Guarded) -> JobTls:
    """A job whose certificates are stored as its launcher stores them."""
    made = JobTls.make()
    patch = pytest.MonkeyPatch()
    admin = guarded.keys["admin"]
    with patch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", guarded.endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", admin["aws_access_key_id"])
        environment.setenv("AWS_SECRET_ACCESS_KEY", admin["aws_secret_access_key"])
        description = {"region": REGION, "parameter_prefix": "/cloudimg/lab"}
        EcsLauncher(description, "another-job").store_tls(made)
    return made


@pytest.mark.parametrize("role", ["worker", "scheduler"])
def test_a_task_cannot_use_what_it_reads_of_another_job(
    guarded: Guarded, another_job: JobTls, role: str
) -> None:
    """The certificate is readable, with the role that all jobs have; what decrypts it is not."""
    client = guarded.client(f"{role}-{EVERYWHERE}", "ssm")
    stored = client.get_parameter(Name=f"{ANOTHER_JOB}/{role}/tls", WithDecryption=True)
    text = stored["Parameter"]["Value"]
    key = another_job.of_tasks()[role].key
    assert not any(line in text for line in key.splitlines())
    _, secret_of_own_job = encrypt("its certificate")
    with pytest.raises(ClusterError, match="cannot be decrypted"):
        decrypt(text, secret_of_own_job)
    client.close()


@pytest.mark.parametrize(("service", "action", "arguments"), TELLING)
def test_tasks_may_not_ask_what_decrypts_it(
    guarded: Guarded, another_job: JobTls, service: str, action: str, arguments: dict[str, Any]
) -> None:
    for role in ("worker", "scheduler"):
        client = guarded.client(f"{role}-{EVERYWHERE}", service)
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            getattr(client, action)(**arguments)
        client.close()
        assert "is not authorized to perform" in str(caught.value)


# ----------------------------------------------------------- conditions, by rules of our own


ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject"}


def allows(policy: str, action: str, resource: str, context: dict[str, str]) -> bool:
    """Whether some statement allows a request; knows the conditions that are used here.

    As in IAM, a StringLike on something that the request does not say is not met.
    """
    return any(
        action in as_list(statement["Action"])
        and any(fnmatch.fnmatchcase(resource, each) for each in as_list(statement["Resource"]))
        and all(
            name in context and fnmatch.fnmatchcase(context[name], pattern)
            for name, pattern in statement.get("Condition", {}).get("StringLike", {}).items()
        )
        for statement in statements(policy)
    )


@pytest.mark.parametrize("backend", ["", "fsspec"])
def test_every_request_keeps_to_the_conditions(
    policies: dict[str, str],
    meter: Meter,
    bucket: str,
    set_variable: Callable[[str, str], None],
    backend: str,
) -> None:
    """Listings ask for a prefix that the worker's policy has, and never for a whole bucket.

    Where an object was not found, the right to list is needed too, else S3 answers 403: it is asked
    for with the object's key as the prefix.
    """
    set_variable("CLOUDIMG_BACKEND", backend)
    forget_connections()
    policy = policies["worker"]
    for name in ("source", "destination"):
        policy = policy.replace(f"arn:aws:s3:::{name}", f"arn:aws:s3:::{bucket}")
    seed.write(lambda key, data: meter.put(bucket, f"scans/{key}", data))
    options = meter.storage_options
    source, url = f"s3://{bucket}/scans/{seed.PATTERN}", f"s3://{bucket}/zarr/copy.ome.zarr"
    with meter.measure() as traffic:
        migrate(source, url, options)
        migrate(source, url, options)
        assert cloudimg.verify(
            url, against_source=True, storage_options=options, source_options=options
        )
    asked = {"listed": 0, "missing": 0}
    whole = f"arn:aws:s3:::{bucket}"
    for request in traffic.requests:
        if request.key:
            action, resource = ACTIONS[request.method], f"{whole}/{request.key}"
            assert allows(policy, action, resource, {}), request
        if not request.key or request.status == 404:
            prefix = request.key or request.query.get("prefix")
            context = {} if prefix is None else {"s3:prefix": prefix}
            assert allows(policy, "s3:ListBucket", whole, context), request
            asked["missing" if request.key else "listed"] += 1
    assert min(asked.values()) > 0, asked


@pytest.mark.parametrize("context", [{}, {"s3:prefix": ""}, {"s3:prefix": "private/"}])
def test_the_rules_refuse_other_listings(policies: dict[str, str], context: dict[str, str]) -> None:
    for name in ("source", "destination"):
        assert not allows(policies["worker"], "s3:ListBucket", f"arn:aws:s3:::{name}", context)


def test_tasks_do_not_learn_the_keys_of_other_jobs(policies: dict[str, str]) -> None:
    """Not by moto, which checks requests to Systems Manager without their resource.

    Tasks read the certificate of their role in any job, encrypted. They may read neither the
    client's, which has what decrypts the others, nor the environment of tasks, which has it, too.
    """
    for role, another in (("worker", "scheduler"), ("scheduler", "worker")):
        for name, is_allowed in (
            (f"{role}/tls", True), (f"{another}/tls", False), ("client", False),
        ):  # fmt: skip
            parameter = arn("ssm", f"parameter/cloudimg/lab/another-job/{name}")
            allowed = allows(policies[role], "ssm:GetParameter", parameter, {})
            assert allowed is is_allowed, (role, name)
        named = {each for one in statements(policies[role]) for each in as_list(one["Action"])}
        assert not named & {"ecs:DescribeTasks", "ecs:RunTask", "ssm:GetParameters"}
