"""Jobs on Kubernetes: their manifests, and the launcher against a server of the API."""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
import ssl
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import google.auth
import kubernetes_validate
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.exceptions import RefreshError
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kubernetes import client

from cloudimg.cluster import gke, manifests
from cloudimg.cluster.gke import GkeLauncher
from cloudimg.cluster.launcher import Addresses, Fleet, Launcher
from cloudimg.cluster.tls import JobTls, Tls
from cloudimg.errors import ArgumentError, ClusterError

pytestmark = pytest.mark.slow  # all of them together

OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "cloudimg-x-scheduler", "uid": "1-2-3"}
VERSIONS = ("1.31", kubernetes_validate.latest_version())
SPOT = "cloud.google.com/gke-spot"
TLS = JobTls(
    *(
        Tls(
            f"-----BEGIN CERTIFICATE-----\n{role}\n",
            f"-----BEGIN PRIVATE KEY-----\n{role}secret\n",
            "-----BEGIN CERTIFICATE-----\nauthority\n",
        )
        for role in ("client", "scheduler", "worker")
    )
)
ADMIN = "203.0.113.7/32"


def describe(**changes: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "kind": "gcp-gke",
        "project": "p",
        "location": "europe-west3",
        "cluster": "c",
        "endpoint": "https://127.0.0.1:1",
        "ca_certificate": base64.b64encode(b"none").decode(),
        "namespace": "cloudimg",
        "worker_service_account": "cloudimg-worker",
        "image": "europe-west3-docker.pkg.dev/p/cloudimg/cloudimg:0.1.0",
        "admin_cidr": [ADMIN],
        "worker_cpu": "4",
        "worker_memory": "16Gi",
    } | changes


def all_of(at: Mapping[str, Any], job: str, count: int = 3) -> list[dict[str, Any]]:
    return [
        manifests.namespace(at),
        *manifests.service_accounts(at),
        manifests.scheduler_job(at, job),
        *(
            manifests.secret(at, job, role, tls.to_json(), OWNER)
            for role, tls in (("client", TLS.client), *TLS.of_tasks().items())
        ),
        *manifests.services(at, job, OWNER),
        *manifests.network_policies(at, job, OWNER),
        manifests.worker_job(at, job, count, OWNER),
    ]


# Manifests


# Without shrinking: each example is many schemas, and says enough as it is.
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(
    job=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?", fullmatch=True),
    count=st.integers(1, 5000),
    cidrs=st.lists(st.ip_addresses(v=4).map(lambda ip: f"{ip}/32"), max_size=3),
    cpu=st.sampled_from(["1", "4", "3500m"]),
    memory=st.sampled_from(["512Mi", "16Gi", "16G"]),
)
def test_manifests_are_valid(job: str, count: int, cidrs: list[str], cpu: str, memory: str) -> None:
    at = describe(admin_cidr=cidrs, worker_cpu=cpu, worker_memory=memory)
    found = all_of(at, job, count)
    for manifest in found:
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
        # What schemas do not say: names are also host names, and values of labels are short.
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in found]
    assert len(set(names)) == len(names)


def test_the_schemas_are_strict() -> None:
    manifest = manifests.worker_job(describe(), "x", 3, OWNER)
    manifest["spec"]["template"]["spec"]["nodeSelectors"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_the_scheduler_owns_all_other_objects() -> None:
    for manifest in all_of(describe(), "x"):
        owners = manifest["metadata"].get("ownerReferences", [])
        is_scheduler = manifest["metadata"]["name"] == "cloudimg-x-scheduler"
        if manifest["kind"] in {"Namespace", "ServiceAccount"} or (
            manifest["kind"] == "Job" and is_scheduler
        ):
            assert owners == []
        else:
            assert [owner["uid"] for owner in owners] == ["1-2-3"]


def test_pods_have_no_privileges() -> None:
    at = describe()
    labels = manifests.namespace(at)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for account in manifests.service_accounts(at):
        assert account["automountServiceAccountToken"] is False
    for job in (manifests.scheduler_job(at, "x"), manifests.worker_job(at, "x", 3, OWNER)):
        pod = job["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
        kinds = {key for volume in pod["volumes"] for key in volume} - {"name"}
        assert kinds == {"secret", "emptyDir"}
        paths = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert paths == {"/tmp", environment(container)["CLOUDIMG_TLS_DIR"]}


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def test_workers_are_on_spot_machines_and_are_replaced() -> None:
    job = manifests.worker_job(describe(), "job-1", 40, OWNER)["spec"]
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {SPOT: "true"}
    assert pod["tolerations"][0]["key"] == SPOT
    assert pod["terminationGracePeriodSeconds"] <= 25
    assert pod["restartPolicy"] == "Never"
    assert job["parallelism"] == 40
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "Ignore"
    assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # Neither workers that exit nor those that die complete it: it ends with its owner.
    assert job["completions"] > 100_000
    assert job["backoffLimit"] > 100_000
    (container,) = pod["containers"]
    assert container["args"] == ["worker", "tls://cloudimg-job-1-scheduler.cloudimg.svc:8786"]
    variables = environment(container)
    assert variables["CLOUDIMG_WORKER_THREADS"] == "4"
    assert variables["CLOUDIMG_WORKER_MEMORY"] == "16GiB"
    assert variables["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
    assert container["resources"]["limits"]["memory"] == "16Gi"


def test_the_scheduler_stays_and_goes_with_all() -> None:
    job = manifests.scheduler_job(describe(), "job-1")["spec"]
    template = job["template"]
    assert job["suspend"] is True
    assert job["backoffLimit"] == 0
    assert job["ttlSecondsAfterFinished"] > 0
    assert SPOT not in template["spec"].get("nodeSelector", {})
    assert (
        template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"]
        == "false"
    )
    (container,) = template["spec"]["containers"]
    assert container["args"] == ["scheduler"]
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8786}
    assert environment(container)["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"


@pytest.mark.parametrize(
    ("given", "name"), [("4x", "worker_cpu"), ("16 GB", "worker_memory"), ("", "worker_memory")]
)
def test_invalid_quantities(given: str, name: str) -> None:
    with pytest.raises(ArgumentError, match=name):
        manifests.worker_job(describe(**{name: given}), "x", 3, OWNER)


@pytest.mark.parametrize(("cpu", "threads"), [("1", "1"), ("3500m", "3"), ("250m", "1")])
def test_threads_are_whole(cpu: str, threads: str) -> None:
    job = manifests.worker_job(describe(worker_cpu=cpu), "x", 3, OWNER)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert environment(container)["CLOUDIMG_WORKER_THREADS"] == threads


def test_the_public_address_is_limited_to_admin_cidr() -> None:
    at = describe(admin_cidr=[ADMIN, "198.51.100.0/24"])
    inside, outside = (each["spec"] for each in manifests.services(at, "x", OWNER))
    assert inside["clusterIP"] == "None"
    assert outside["type"] == "LoadBalancer"
    assert outside["loadBalancerSourceRanges"] == [ADMIN, "198.51.100.0/24"]
    assert outside["externalTrafficPolicy"] == "Local"
    assert [port["port"] for port in outside["ports"]] == [8786]
    closed = manifests.services(describe(admin_cidr=[]), "x", OWNER)
    assert [each["spec"].get("type") for each in closed] == [None]


@pytest.mark.parametrize(
    ("source", "role", "port", "is_allowed"),
    [
        ({"cloudimg/job": "x"}, "scheduler", 8786, True),
        ({"cloudimg/job": "x"}, "worker", 40000, True),
        ({"cloudimg/job": "y"}, "scheduler", 8786, False),
        ({"app": "other"}, "worker", 40000, False),
        ("203.0.113.7", "scheduler", 8786, True),
        ("203.0.113.7", "scheduler", 8787, False),
        ("203.0.113.7", "worker", 8786, False),
        ("203.0.113.8", "scheduler", 8786, False),
    ],
)
def test_allowed_connections(
    source: str | Mapping[str, str], role: str, port: int, is_allowed: bool
) -> None:
    at = describe()
    make = {
        "scheduler": manifests.scheduler_job(at, "x"),
        "worker": manifests.worker_job(at, "x", 1, OWNER),
    }[role]
    target = make["spec"]["template"]["metadata"]["labels"]
    policies = manifests.network_policies(at, "x", OWNER)
    assert allows(policies, source, target, port) is is_allowed
    closed = manifests.network_policies(describe(admin_cidr=[]), "x", OWNER)
    assert allows(closed, source, target, port) is (is_allowed and not isinstance(source, str))


def allows(
    policies: list[dict[str, Any]],
    source: str | Mapping[str, str],
    target: Mapping[str, str],
    port: int,
) -> bool:
    """As Kubernetes decides: a pod that no policy selects is open, else one rule must match."""

    def fits(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        return wanted.items() <= labels.items()

    def comes_from(peer: Mapping[str, Any]) -> bool:
        if isinstance(source, str):
            block = peer.get("ipBlock")
            return block is not None and (
                ipaddress.ip_address(source) in ipaddress.ip_network(block["cidr"])
            )
        return "podSelector" in peer and fits(peer["podSelector"]["matchLabels"], source)

    mine = [p["spec"] for p in policies if fits(p["spec"]["podSelector"]["matchLabels"], target)]
    return not mine or any(
        ("from" not in rule or any(map(comes_from, rule["from"])))
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        for spec in mine
        for rule in spec["ingress"]
    )


# A server of the API


@dataclass
class Kubernetes:
    """Keeps objects by their path, makes the pods of Jobs, and deletes what has lost its owner."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuse: Callable[[str, str, bytes], tuple[int, str] | None] = lambda *_: None
    linger: int = 0
    """Requests until what is deleted is gone."""
    going: dict[str, int] = field(default_factory=dict)
    """What is being deleted, and for how many requests more."""

    def answer(self, method: str, target: str, body: bytes, kind: str) -> tuple[int, Any]:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.requests.append((method, url.path))
        refused = self.refuse(method, url.path, body)
        if refused:
            return refused[0], status(*refused)
        self._settle()
        act = {"POST": self._create, "PATCH": self._patch, "DELETE": self._delete}.get(method)
        if act is not None:
            return act(url.path, json.loads(body or b"{}"), kind, query)
        if url.path in self.objects:
            return 200, self.objects[url.path]
        last = url.path.rsplit("/", 1)[-1]
        if last in {"jobs", "pods", "secrets", "services", "networkpolicies", "events"}:
            return 200, {"metadata": {}, "items": self._select(url.path, query)}
        return 404, status(404, f"{url.path} not found")

    def _create(
        self, path: str, made: dict[str, Any], kind: str, query: dict[str, str]
    ) -> tuple[int, Any]:
        kubernetes_validate.validate(made, VERSIONS[-1], strict=True)
        where = f"{path}/{made['metadata']['name']}"
        space = re.match(r".*/namespaces/[^/]+(?=/)", path)
        if space and "/api/v1/" + space[0].split("v1/")[1] not in self.objects:
            return 404, status(404, "namespace not found")
        if where in self.objects:
            return 409, status(409, "already exists")
        made["metadata"]["uid"] = str(uuid.uuid4())
        made["metadata"]["creationTimestamp"] = now()
        self.objects[where] = made
        return 201, made

    def _patch(self, path: str, patch: Any, kind: str, query: dict[str, str]) -> tuple[int, Any]:
        if kind != "application/json-patch+json" or not isinstance(patch, list):
            return 415, status(415, "not a JSON patch")
        if path not in self.objects:
            return 404, status(404, "not found")
        for step in patch:
            *parents, last = step["path"].strip("/").split("/")
            place = self.objects[path]
            for parent in parents:
                place = place[parent]
            assert step["op"] == "replace"
            assert last in place
            place[last] = step["value"]
        return 200, self.objects[path]

    def _delete(self, path: str, options: Any, kind: str, query: dict[str, str]) -> tuple[int, Any]:
        if path not in self.objects:
            return 404, status(404, "not found")
        self.objects[path]["metadata"]["deletionTimestamp"] = now()
        self.going[path] = self.linger
        if not self.linger:
            self._settle()
        return 200, status(200, "")

    def _settle(self) -> None:
        for path, left in list(self.going.items()):
            self.going[path] = left - 1
            if left <= 0:
                del self.going[path]
                self.objects.pop(path, None)
        while lost := [path for path, found in self.objects.items() if self._is_lost(found)]:
            for path in lost:
                del self.objects[path]
        for found in list(self.objects.values()):
            if found["kind"] == "Job" and not found["spec"].get("suspend"):
                self._run(found)

    def _is_lost(self, found: dict[str, Any]) -> bool:
        uids = {each["metadata"]["uid"] for each in self.objects.values()}
        owners = found["metadata"].get("ownerReferences", [])
        return bool(owners) and not any(owner["uid"] in uids for owner in owners)

    def _run(self, job: dict[str, Any]) -> None:
        """What the controller of Jobs does: pods that have ended are replaced."""
        metadata, state = job["metadata"], job.setdefault("status", {})
        pods = [
            each
            for each in self.pods()
            if each["metadata"]["ownerReferences"][0]["uid"] == metadata["uid"]
        ]
        alive = [each for each in pods if each["status"]["phase"] in {"Pending", "Running"}]
        state["ready"] = sum(each["status"]["phase"] == "Running" for each in alive)
        ended = len(pods) - len(alive)
        is_over = "deletionTimestamp" in metadata or ended > job["spec"]["backoffLimit"]
        wanted = 0 if is_over else job["spec"].get("parallelism", 1)
        for _ in range(wanted - len(alive)):
            name = f"{metadata['name']}-{uuid.uuid4().hex[:5]}"
            self.objects[f"/api/v1/namespaces/{metadata['namespace']}/pods/{name}"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "uid": str(uuid.uuid4()),
                    "labels": dict(job["spec"]["template"]["metadata"]["labels"]),
                    "ownerReferences": [
                        {**OWNER, "name": metadata["name"], "uid": metadata["uid"]}
                    ],
                    "creationTimestamp": now(),
                },
                "spec": job["spec"]["template"]["spec"],
                "status": {"phase": "Pending"},
            }

    def _select(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        labels = [each.split("=") for each in query.get("labelSelector", "").split(",") if each]
        found = [
            each
            for where, each in self.objects.items()
            if where.rsplit("/", 1)[0] == path
            and all(each["metadata"].get("labels", {}).get(key) == value for key, value in labels)
        ]
        for wanted in filter(None, query.get("fieldSelector", "").split(",")):
            name, sign, value = re.fullmatch(r"([\w.]+)(!?=)(.*)", wanted).groups()  # type: ignore[union-attr]
            found = [each for each in found if (value_at(each, name) == value) is (sign == "=")]
        return found

    # For the tests

    def pods(self, role: str = "") -> list[dict[str, Any]]:
        self_role = "app.kubernetes.io/component"
        return [
            each
            for each in self.objects.values()
            if each["kind"] == "Pod" and role in each["metadata"]["labels"][self_role]
        ]

    def all_run(self, role: str = "") -> None:
        """Pods that wait are started."""
        self._settle()
        for pod in self.pods(role):
            if pod["status"]["phase"] == "Pending":
                pod["status"] = {
                    "phase": "Running",
                    "conditions": [{"type": "Ready", "status": "True"}],
                }

    def get(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (
            each
            for each in self.objects.values()
            if each["kind"] == kind and each["metadata"]["name"] == name
        )
        return found

    def kinds(self) -> set[str]:
        """Of what is there beside the namespace and its accounts."""
        return {each["kind"] for each in self.objects.values()} - {"Namespace", "ServiceAccount"}


def value_at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = found.get(name, {})
    return found


def status(code: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


def now() -> str:
    return datetime.now(UTC).isoformat()


class Handler(BaseHTTPRequestHandler):
    def handle_any(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with server.lock:
            server.kubernetes.tokens.add(self.headers.get("Authorization", ""))
            code, found = server.kubernetes.answer(
                self.command, self.path, body, self.headers.get("Content-Type", "")
            )
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@contextmanager
def serve(kubernetes: Kubernetes, certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.kubernetes, server.lock = kubernetes, threading.Lock()  # type: ignore[attr-defined]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def write_certificate(path: Path) -> bytes:
    """A certificate for 127.0.0.1 and its key into a file; the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    begin = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate)
    return certificate


@dataclass
class Credentials:
    """Google's, that are valid for as long as `left` says."""

    token: str = "token-0"
    left: int = 1000
    n_refreshed: int = 0
    error: Exception | None = None

    @property
    def valid(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def refresh(self, request: object) -> None:
        if self.error is not None:
            raise self.error
        self.n_refreshed += 1
        self.token, self.left = f"token-{self.n_refreshed}", 2


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Credentials:
    made = Credentials()
    monkeypatch.setattr(google.auth, "default", lambda scopes: (made, "p"))
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Kubernetes, dict[str, Any]]]:
    kubernetes = Kubernetes()
    certificate = write_certificate(tmp_path / "server.pem")
    with serve(kubernetes, tmp_path / "server.pem") as endpoint:
        encoded = base64.b64encode(certificate).decode()
        yield kubernetes, describe(endpoint=endpoint, ca_certificate=encoded)


@pytest.fixture
def kubernetes(server: tuple[Kubernetes, dict[str, Any]]) -> Kubernetes:
    return server[0]


@pytest.fixture
def launch(
    server: tuple[Kubernetes, dict[str, Any]],
    credentials: Credentials,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., GkeLauncher]:
    """Makes a launcher of a job, with the description with changes."""
    monkeypatch.setattr(gke, "_PAUSE_S", 0.01)
    return lambda job="job-1", **changes: GkeLauncher(server[1] | changes, job)


@pytest.fixture
def launcher(launch: Callable[..., GkeLauncher]) -> GkeLauncher:
    return launch()


def begin(launcher: Launcher, kubernetes: Kubernetes) -> None:
    launcher.store_tls(TLS)
    launcher.start_scheduler()
    kubernetes.all_run("scheduler")


# The launcher


def test_a_job_from_beginning_to_end(launcher: GkeLauncher, kubernetes: Kubernetes) -> None:
    launcher.store_tls(TLS)
    assert kubernetes.kinds() == {"Job", "Secret"}  # and nothing runs
    launcher.start_scheduler()
    assert launcher.find_scheduler() is None
    kubernetes.all_run("scheduler")
    assert launcher.find_scheduler() is None  # its address outside is not there yet
    balancer = kubernetes.get("Service", "cloudimg-job-1-client")
    balancer["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert launcher.find_scheduler() == Addresses(
        "tls://cloudimg-job-1-scheduler.cloudimg.svc:8786", "tls://192.0.2.1:8786"
    )
    assert launcher.look() == Fleet(0, 0)
    assert launcher.keep_workers(3) == Fleet(0, 3)
    kubernetes.all_run("worker")
    assert launcher.look() == Fleet(3, 0)
    launcher.stop()
    assert kubernetes.kinds() == set()
    assert launcher.load_tls() is None
    launcher.stop()
    with pytest.raises(ClusterError, match="job-1 has no scheduler"):
        launcher.find_scheduler()
    with pytest.raises(ClusterError, match="job-1 has no scheduler"):
        launcher.keep_workers(3)
    assert kubernetes.kinds() == set()


def test_pods_start_after_the_policies_that_protect_them(
    launcher: GkeLauncher, kubernetes: Kubernetes
) -> None:
    launcher.store_tls(TLS)
    launcher.start_scheduler()
    changes = [(m, p.rsplit("/", 1)[-1]) for m, p in kubernetes.requests if m != "GET"]
    assert changes[-1] == ("PATCH", "cloudimg-job-1-scheduler")
    assert ("POST", "networkpolicies") in changes
    assert ("POST", "secrets") in changes


def test_without_a_public_address(
    launch: Callable[..., GkeLauncher], kubernetes: Kubernetes
) -> None:
    launcher = launch(admin_cidr=[])
    begin(launcher, kubernetes)
    (pod,) = kubernetes.pods()
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    assert launcher.find_scheduler() is None  # it runs, and does not answer yet
    pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    found = launcher.find_scheduler()
    assert found is not None
    assert found.client is None
    services = [each for each in kubernetes.objects.values() if each["kind"] == "Service"]
    assert [each["spec"].get("type") for each in services] == [None]


def test_another_process_finds_the_job(
    launch: Callable[..., GkeLauncher], kubernetes: Kubernetes
) -> None:
    begin(launch(), kubernetes)
    launch().keep_workers(2)
    other = launch()
    assert other.load_tls() == TLS.client
    assert other.look() == Fleet(0, 2)
    assert launch("job-2").load_tls() is None
    launch("job-2").stop()
    assert other.load_tls() == TLS.client
    other.stop()
    assert kubernetes.kinds() == set()


def test_lost_workers_are_replaced_and_none_is_dismissed(
    launcher: GkeLauncher, kubernetes: Kubernetes
) -> None:
    begin(launcher, kubernetes)
    launcher.keep_workers(2)
    kubernetes.all_run("worker")
    assert launcher.keep_workers(5) == Fleet(2, 3)
    kubernetes.all_run("worker")
    assert launcher.keep_workers(1) == Fleet(5, 0)
    assert kubernetes.get("Job", "cloudimg-job-1-worker")["spec"]["parallelism"] == 5
    lost = kubernetes.pods("worker")[0]
    lost["status"] = {"phase": "Failed", "reason": "Terminated", "message": "node shutdown"}
    fleet = launcher.keep_workers(5)
    assert (fleet.n_running, fleet.n_starting) == (4, 1)
    assert len(kubernetes.pods("worker")) == 6


def test_workers_are_started_again_after_their_job_failed(
    launcher: GkeLauncher, kubernetes: Kubernetes
) -> None:
    begin(launcher, kubernetes)
    launcher.keep_workers(2)
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    kubernetes.get("Job", "cloudimg-job-1-worker")["status"]["conditions"] = [failed]
    (problem,) = launcher.look().problems
    assert "BackoffLimitExceeded" in problem
    kubernetes.linger = 3
    assert launcher.keep_workers(2) == Fleet(0, 2)


def test_a_name_is_taken_once(launch: Callable[..., GkeLauncher], kubernetes: Kubernetes) -> None:
    first = launch()
    begin(first, kubernetes)
    first.store_tls(TLS)  # the same: an answer may have been lost on the way
    first.start_scheduler()
    other = JobTls(*[Tls("another certificate", "another key", "another authority")] * 3)
    with pytest.raises(ClusterError, match="there is already"):
        launch().store_tls(other)
    assert first.load_tls() == TLS.client
    assert len(kubernetes.pods("scheduler")) == 1


def test_a_name_is_free_again_when_everything_is_deleted(
    launch: Callable[..., GkeLauncher], kubernetes: Kubernetes
) -> None:
    begin(launch(), kubernetes)
    # Load balancers take long to go: one of the job before is still there.
    left = kubernetes.get("Service", "cloudimg-job-1-client")
    launch().stop()
    where = "/api/v1/namespaces/cloudimg/services/cloudimg-job-1-client"
    left["metadata"]["deletionTimestamp"] = now()
    del left["metadata"]["ownerReferences"]
    kubernetes.objects[where] = left
    kubernetes.going[where] = 12
    again = launch()
    begin(again, kubernetes)
    fresh = kubernetes.get("Service", "cloudimg-job-1-client")
    assert fresh["metadata"]["uid"] != left["metadata"]["uid"]


def test_an_object_of_another_owner_is_not_used(
    launcher: GkeLauncher, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher.store_tls(TLS)
    (left, *_) = manifests.network_policies(describe(), "job-1", OWNER)
    del left["metadata"]["ownerReferences"]
    left["metadata"]["uid"] = "other"
    where = "/apis/networking.k8s.io/v1/namespaces/cloudimg/networkpolicies/cloudimg-job-1-members"
    kubernetes.objects[where] = left
    monkeypatch.setattr(gke, "_DELETION_S", 0.1)
    with pytest.raises(ClusterError, match="NetworkPolicy cloudimg-job-1-members of an earlier"):
        launcher.start_scheduler()
    assert kubernetes.pods() == []


def test_stop_waits_for_the_pods(
    launch: Callable[..., GkeLauncher], kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = launch()
    begin(launcher, kubernetes)
    launcher.keep_workers(2)
    kubernetes.linger = 5
    launcher.stop()
    assert kubernetes.kinds() == set()
    with pytest.raises(ClusterError, match="is over"):
        launcher.store_tls(TLS)
    assert kubernetes.kinds() == set()
    launcher = launch()
    begin(launcher, kubernetes)
    kubernetes.linger = 10**6
    monkeypatch.setattr(gke, "_DELETION_S", 0.1)
    with pytest.raises(ClusterError, match="still being deleted"):
        launcher.stop()
    with pytest.raises(ClusterError, match="is being deleted"):
        launcher.keep_workers(2)


def test_a_secret_without_its_owner_is_deleted(
    launcher: GkeLauncher, kubernetes: Kubernetes
) -> None:
    launcher.store_tls(TLS)
    left = kubernetes.get("Secret", "cloudimg-job-1-client-tls")
    del left["metadata"]["ownerReferences"]  # as `kubectl delete --cascade=orphan` does
    launcher.stop()
    assert kubernetes.kinds() == set()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "state": {
                            "waiting": {"reason": "ImagePullBackOff", "message": "no image i:1"}
                        },
                    }
                ],
            },
            "ImagePullBackOff: no image i:1",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [
                    {
                        "state": {
                            "terminated": {
                                "reason": "OOMKilled",
                                "exitCode": 137,
                                "message": "a\nb\nc\nd\n",
                            }
                        },
                    }
                ],
            },
            "OOMKilled (exit code 137): b | c | d",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Evicted: disk"),
        (
            {
                "phase": "Failed",
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByGC"}
                ],
                "containerStatuses": [{"state": {"terminated": {"exitCode": 143}}}],
            },
            "its machine was taken away (DeletionByGC)",
        ),
    ],
)
def test_why_pods_do_not_run(
    launcher: GkeLauncher, kubernetes: Kubernetes, state: dict[str, Any], reason: str
) -> None:
    begin(launcher, kubernetes)
    launcher.keep_workers(3)
    for pod in kubernetes.pods("worker")[:2]:
        pod["status"] = state
    (problem,) = launcher.look().problems  # once, for both
    assert reason in problem
    kubernetes.pods("scheduler")[0]["status"] = state
    with pytest.raises(ClusterError, match=re.escape(reason)):
        launcher.find_scheduler()


def test_a_scheduler_that_has_ended(launcher: GkeLauncher, kubernetes: Kubernetes) -> None:
    begin(launcher, kubernetes)
    job = kubernetes.get("Job", "cloudimg-job-1-scheduler")
    job["status"]["conditions"] = [
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    ]
    for ask in (launcher.find_scheduler, lambda: launcher.keep_workers(2)):
        with pytest.raises(ClusterError, match=r"has ended: BackoffLimitExceeded"):
            ask()
    job["status"]["conditions"] = [{"type": "Complete", "status": "True"}]
    with pytest.raises(ClusterError, match="because it was idle"):
        launcher.find_scheduler()


def test_no_machine_is_available(launcher: GkeLauncher, kubernetes: Kubernetes) -> None:
    begin(launcher, kubernetes)
    launcher.keep_workers(2)
    lacking = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    for pod in kubernetes.pods():
        pod["status"] = {"phase": "Pending", "conditions": [lacking]}
    assert launcher.find_scheduler() is None
    assert launcher.look() == Fleet(0, 2)
    for pod in kubernetes.pods():
        long_ago = datetime.now(UTC) - timedelta(minutes=20)
        pod["metadata"]["creationTimestamp"] = long_ago.isoformat()
    assert launcher.find_scheduler() is None
    (problem,) = launcher.look().problems
    assert "no spot machines" in problem


def test_pods_that_kubernetes_does_not_create(
    launcher: GkeLauncher, kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kubernetes, "_run", lambda self, job: None)
    begin(launcher, kubernetes)
    assert launcher.keep_workers(2) == Fleet(0, 2)
    for role in ("scheduler", "worker"):
        job = kubernetes.get("Job", f"cloudimg-job-1-{role}")
        kubernetes.objects[f"/api/v1/namespaces/cloudimg/events/{role}"] = {
            "kind": "Event",
            "metadata": {"name": role, "uid": role},
            "involvedObject": {"kind": "Job", "uid": job["metadata"]["uid"]},
            "reason": "FailedCreate",
            "message": f"exceeded quota of {role}s",
            "count": 2,
        }
    assert launcher.find_scheduler() is None  # it may pass
    assert launcher.look().problems == ()
    for found in kubernetes.objects.values():
        if found["kind"] == "Event":
            found["count"] = 3
    with pytest.raises(ClusterError, match="exceeded quota of schedulers"):
        launcher.find_scheduler()
    assert "exceeded quota of workers" in launcher.look().problems[0]


# Refusals and secrets


def test_a_refusal_names_the_missing_role(launcher: GkeLauncher, kubernetes: Kubernetes) -> None:
    needed = 'requires one of ["container.jobs.create"]'
    kubernetes.refuse = lambda method, path, body: (
        (403, needed) if method == "POST" and path.endswith("/jobs") else None
    )
    with pytest.raises(ClusterError) as caught:
        launcher.store_tls(TLS)
    assert needed in str(caught.value)
    assert "roles/container.developer" in str(caught.value)
    kubernetes.refuse = lambda method, path, body: (401, "Unauthorized")
    with pytest.raises(ClusterError, match="gcloud auth application-default login"):
        launcher.look()


def test_errors_do_not_repeat_the_key(
    launch: Callable[..., GkeLauncher], kubernetes: Kubernetes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever request fails, with an answer that repeats what was sent."""
    caplog.set_level(logging.DEBUG)
    secrets = ("clientsecret", base64.b64encode(TLS.client.to_json().encode()).decode(), "token-0")
    n_failed = 0
    contexts: list[BaseException | None] = []
    for number in range(100):
        launcher = launch(f"job-{number}")
        first = len(kubernetes.requests)
        kubernetes.refuse = lambda method, path, body, at=first + number: (  # type: ignore[misc]
            (422, f"invalid: {body.decode()}") if len(kubernetes.requests) == at + 1 else None
        )
        try:
            begin(launcher, kubernetes)
            launcher.load_tls()
            break
        except ClusterError as exc:
            n_failed += 1
            shown = f"{exc} {exc!r} {exc.cause} {exc.__cause__} {launcher!r} {launcher.__dict__}"
            assert not any(secret in shown for secret in secrets)
            contexts.append(exc.__context__)
    assert n_failed > 10
    assert not any(contexts)  # an error of the client would hold the answer
    assert not any(secret in caplog.text for secret in secrets)


def test_expired_tokens_are_refreshed(
    launcher: GkeLauncher, kubernetes: Kubernetes, credentials: Credentials
) -> None:
    credentials.left = 1
    for _ in range(5):
        launcher.look()
    assert kubernetes.tokens == {"Bearer token-0", "Bearer token-1", "Bearer token-2"}
    credentials.left = 0
    credentials.error = RefreshError("invalid_grant", {"refresh_token": "verysecret"})
    with pytest.raises(ClusterError, match="gcloud auth application-default login") as caught:
        launcher.look()
    assert "verysecret" not in f"{caught.value} {caught.value.cause}"
    assert caught.value.__context__ is None


def test_a_server_with_another_certificate(
    launch: Callable[..., GkeLauncher],
    kubernetes: Kubernetes,
    tmp_path: Path,
) -> None:
    other = base64.b64encode(write_certificate(tmp_path / "other.pem")).decode()
    with pytest.raises(ClusterError, match="certificate"):
        launch(ca_certificate=other).look()
    assert kubernetes.requests == []


def test_invalid_descriptions(launch: Callable[..., GkeLauncher]) -> None:
    with pytest.raises(ArgumentError, match="must start with https"):
        launch(endpoint="http://127.0.0.1:1")
    with pytest.raises(ArgumentError, match="ca_certificate"):
        launch(ca_certificate="no base64!")


def test_a_client_of_ones_own(server: tuple[Kubernetes, dict[str, Any]], tmp_path: Path) -> None:
    kubernetes, at = server
    authority = tmp_path / "authority.pem"
    authority.write_bytes(base64.b64decode(at["ca_certificate"]))
    configuration = client.Configuration(host=at["endpoint"])
    configuration.ssl_ca_cert = str(authority)
    mine = client.ApiClient(configuration)
    launcher = GkeLauncher(describe(), "job-1", api_client=mine)  # its endpoint does not answer
    begin(launcher, kubernetes)
    assert launcher.load_tls() == TLS.client
    assert kubernetes.tokens == {""}


def test_a_server_that_is_not_kubernetes(
    launcher: GkeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kubernetes, "answer", lambda *_: (200, b"<html>"))
    with pytest.raises(ClusterError, match="is not Kubernetes"):
        launcher.look()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(ArgumentError, match=re.escape('pip install "cloudimg-dask[gcp]"')):
        GkeLauncher(describe(), "job-1")
