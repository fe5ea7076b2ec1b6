"""The files of production: valid for what reads them, and of one mind about every program's command and settings."""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from api.orchestrator import CONTROL_POOL, POOL
from api.settings import Settings
from deployments.with_secrets import SECRETS
from flows.cluster_settings import ClusterSettings
from tests.engines import ROOT
from tests.production import (
    COMPOSE,
    CONTAINERFILE,
    IMAGE,
    Service,
    image_entrypoint,
    read_compose,
    read_env_file,
    services,
)

KUBERNETES = ROOT / "deployments" / "kubernetes"
DASK_KUBERNETES = ROOT / "deployments" / "dask-kubernetes"
BASE, OVERLAY = KUBERNETES / "base", KUBERNETES / "overlays" / "example"
SYSTEMD = ROOT / "deployments" / "systemd"
COMPOSE_ENV = COMPOSE.parent / "pyama.env"
KUBERNETES_VERSION = "1.32"
SERVICES = services()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SECRET_NAMES = {"database_password", "prefect_auth", "api_keys"}


def tool(name: str) -> str:
    """Path of a program that may be missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not there")
    return path


def from_venv(name: str) -> str:
    """Path of a program that is installed with the packages for development."""
    return str(Path(sys.executable).parent / name)


# Compose


def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    check = [from_venv("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    ended = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_every_service_runs_the_one_image_and_says_how_much_it_may_take() -> None:
    described = read_compose()["services"]
    for name, service in described.items():
        assert service["image"] == (f"{IMAGE}:{VERSION}" if name != "postgres" else "postgres:17-bookworm")
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["restart"] in {"unless-stopped", "on-failure"}
        assert service["logging"]["options"]["max-size"]
    assert set(described) - set(SERVICES) == {"postgres"}


def test_services_need_only_services_that_there_are_and_none_itself() -> None:
    described = read_compose()["services"]
    for name in described:
        met: set[str] = set()
        waiting = [name]
        while waiting:
            found = set(described[waiting.pop()].get("depends_on", {})) - met
            assert found <= set(described)
            assert name not in found
            met |= found
            waiting += found
    conditions = {(other, needed) for one in SERVICES.values() for other, needed in one.needs.items()}
    for other, condition in conditions:
        ends = condition == "service_completed_successfully"
        assert ends == (other == "deploy"), other
        assert ends or described[other]["healthcheck"]["test"]


def test_whoever_computes_sees_the_data_and_only_the_api_is_open_to_others() -> None:
    described = read_compose()["services"]
    with_data = {name for name, one in described.items() if any(v.endswith(":/data") for v in one.get("volumes", []))}
    assert with_data == set(SERVICES) - {"prefect", "dask-scheduler"}
    assert {name for name, one in described.items() if "ports" in one} == {"api", "prefect"}
    assert all(port.startswith("127.0.0.1:") for one in described.values() for port in one.get("ports", []))
    assert read_compose()["networks"]["inside"] == {"internal": True}


def test_there_is_a_worker_for_each_pool_and_an_api_of_four_processes() -> None:
    commands = {name: " ".join(service.command) for name, service in SERVICES.items()}
    assert f"--pool {POOL} " in commands["worker"]
    assert f"--pool {CONTROL_POOL} " in commands["control-worker"]
    assert "--workers 4" in commands["api"]
    assert SERVICES["dask-worker"].replicas == 2
    assert "--limit" not in commands["worker"]  # the pool has one; a worker's own has it crash


def test_what_the_compose_file_asks_of_its_surroundings_is_written_down_for_every_command(tmp_path: Path) -> None:
    """Run the command that writes it: what is but exported is not there for cron, and for who comes after."""
    (command,) = re.findall(r"^# +(.* > \.env)$", COMPOSE.read_text(), re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    written = read_env_file(tmp_path / ".env")
    assert written.keys() == set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    user = read_compose()["services"]["api"]["user"]
    assert user == f"${{PYAMA_UID:-{written['PYAMA_UID']}}}:${{PYAMA_GID:-{written['PYAMA_GID']}}}"


@pytest.mark.parametrize("path", [COMPOSE, ROOT / "README.md", ROOT / "docs" / "operations.md"], ids=lambda p: p.name)
def test_no_command_of_compose_that_is_told_brings_variables_of_its_own(path: Path) -> None:
    commands = re.findall(r"^[ #]+(.*docker compose (?:\S+ )*(?:up|exec|stop)\b.*)$", path.read_text(), re.MULTILINE)
    assert commands
    assert [command for command in commands if not command.startswith("docker compose ")] == []


# Secrets and settings


def test_no_secret_is_in_any_file() -> None:
    described = read_compose()
    assert set(described["secrets"]) == SECRET_NAMES
    for service in described["services"].values():
        for name, value in service["environment"].items():
            if any(word in name for word in ("PASSWORD", "AUTH", "KEYS")):
                assert name.endswith("_FILE")
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    for path in (COMPOSE.parent / "secrets" / "api_keys", COMPOSE.parent / ".env"):
        ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False)
        assert ignored.returncode == 0 or not (ROOT / ".git").exists(), path


@pytest.mark.parametrize("path", [COMPOSE_ENV, BASE / "pyama.env", SYSTEMD / "pyama.env"], ids=lambda p: p.parent.name)
def test_settings_are_such_that_there_are(path: Path) -> None:
    known = {f"PYAMA_{name.upper()}" for name in Settings.model_fields}
    lines = [line.lstrip("#") for line in path.read_text().splitlines() if re.match(r"#?[A-Z_]+=", line)]
    named = {line.partition("=")[0] for line in lines}
    assert {name for name in named if name.startswith("PYAMA_")} <= known
    with pytest.MonkeyPatch.context() as environment:
        for line in lines:  # those that are commented out, too
            environment.setenv(*line.split("=", 1))
        Settings.from_environment()


def test_settings_are_the_same_everywhere_but_for_addresses() -> None:
    compose = read_env_file(COMPOSE_ENV)
    assert (BASE / "pyama.env").read_text() == COMPOSE_ENV.read_text()
    local = {name: re.sub(r"//[a-z-]+:", "//127.0.0.1:", value) for name, value in compose.items()}
    assert read_env_file(SYSTEMD / "pyama.env") == local


# The image


def test_the_containerfile_is_clean() -> None:
    ended = subprocess.run([from_venv("hadolint"), CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_image_runs_the_api_as_nobody_special_and_looks_after_its_health() -> None:
    text = CONTAINERFILE.read_text()
    final = text[text.rindex("\nFROM ") :]
    api = SERVICES["api"]
    (command,) = re.findall(r"^CMD (\[.*?\])$", final, re.MULTILINE | re.DOTALL)
    assert json.loads(command.replace("\\\n", "")) == list(api.command)
    (check,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*?\])$", final, re.MULTILINE | re.DOTALL)
    assert json.loads(check) == list(api.health_check)
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "--constraint constraints.txt" in text
    assert image_entrypoint() == ["python", "-m", "deployments.with_secrets"]


def test_the_image_gets_the_sources_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    packages = {"api", "deployments", "flows", "pyama_backend", "tasks"}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert {pattern[1:] for pattern in patterns if pattern.startswith("!")} == packages | files
    assert all((ROOT / name).exists() for name in packages | files)
    assert {"**/secrets", "**/.env"} <= set(patterns)


# Kubernetes


def documents(path: Path) -> list[dict[str, Any]]:
    """Objects of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What kubectl makes of the example."""
    return kustomized(copy_of_example(tmp_path_factory.mktemp("kubernetes")))


@pytest.fixture(scope="module")
def built_with_clusters(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What it makes of the example where runs start Dask clusters of their own, changed as their README says."""
    overlay = copy_of_example(tmp_path_factory.mktemp("clusters"))
    (kustomization,) = documents(overlay / "kustomization.yaml")
    kustomization["patches"].remove({"path": "dask-worker.yaml"})
    (component,) = re.findall(r"^ +(components:\n.*)$", (DASK_KUBERNETES / "README.md").read_text(), re.MULTILINE)
    kustomization |= yaml.safe_load(component)
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomized(overlay)


def copy_of_example(folder: Path) -> Path:
    """Copy what the example is made of to a folder, with secrets, and return where it is."""
    for source in (KUBERNETES, DASK_KUBERNETES):
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("secrets"))
    overlay = folder / OVERLAY.relative_to(KUBERNETES.parent)
    (overlay / "secrets").mkdir()
    for name in SECRET_NAMES:
        (overlay / "secrets" / name).write_text(secrets.token_hex())
    return overlay


def kustomized(overlay: Path) -> list[dict[str, Any]]:
    """Objects that kubectl makes of an overlay."""
    ended = subprocess.run([tool("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return [document for document in yaml.safe_load_all(ended.stdout) if document]


def base_objects() -> list[dict[str, Any]]:
    """All objects of the base."""
    (kustomization,) = documents(BASE / "kustomization.yaml")
    return [document for name in kustomization["resources"] for document in documents(BASE / name)]


def pod_templates(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of programs, and the specification of their pods."""
    for found in objects:
        if found["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def test_kustomizations_name_what_there_is_and_nothing_is_left_out() -> None:
    for folder in (BASE, OVERLAY):
        (kustomization,) = documents(folder / "kustomization.yaml")
        patches = [patch["path"] for patch in kustomization.get("patches", [])]
        named = [*kustomization["resources"], *patches]
        assert all((folder / name).exists() for name in named)
        assert {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"} == {
            name for name in named if not name.startswith("..")
        }
        known = {(found["kind"], found["metadata"]["name"]) for found in base_objects()}
        for patch in patches:
            (changed,) = documents(folder / patch)
            assert (changed["kind"], changed["metadata"]["name"]) in known
    (kustomization,) = documents(OVERLAY / "kustomization.yaml")
    assert {Path(name).name for name in kustomization["secretGenerator"][0]["files"]} == SECRET_NAMES


@pytest.mark.parametrize("found", base_objects(), ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_objects_of_the_base_keep_to_the_schemas_of_kubernetes(found: dict[str, Any]) -> None:
    kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_objects_of_the_example_keep_to_the_schemas_of_kubernetes(built: list[dict[str, Any]]) -> None:
    for found in built:
        kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)
    assert {found["metadata"].get("namespace") for found in built if found["kind"] != "Namespace"} == {"pyama"}
    images = {container["image"] for _, pod in pod_templates(built) for container in pod["containers"]}
    assert images == {f"images.lab.example/{IMAGE}:{VERSION}", "postgres:17-bookworm"}
    # By its name, a changed setting or secret has the pods replaced.
    (settings,) = (found["metadata"]["name"] for found in built if found["kind"] == "ConfigMap")
    (secret,) = (found["metadata"]["name"] for found in built if found["kind"] == "Secret")
    for name, pod in pod_templates(built):
        assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {secret}
        if name != "postgres":
            assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": settings}}]


def test_pods_meet_the_restricted_standard() -> None:
    for name, pod in pod_templates(base_objects()):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}


def test_selectors_find_their_pods() -> None:
    objects = base_objects()
    apps = {f["spec"]["template"]["metadata"]["labels"]["app"] for f in objects if f["kind"] not in _WITHOUT_PODS}
    for found in objects:
        if found["kind"] == "Service":
            assert found["spec"]["selector"]["app"] in apps
        if found["kind"] in {"Deployment", "StatefulSet"}:
            assert found["spec"]["selector"]["matchLabels"] == found["spec"]["template"]["metadata"]["labels"]


_WITHOUT_PODS = {"Service", "PersistentVolumeClaim", "NetworkPolicy"}


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_kubernetes_runs_what_compose_does(service: Service) -> None:
    pods = dict(pod_templates(base_objects()))
    assert pods.keys() - {"postgres"} == SERVICES.keys()
    (container,) = pods[service.name]["containers"]
    assert container["image"] == f"{IMAGE}:{VERSION}"
    assert "command" not in container  # it would take the place of the image's entrypoint
    assert tuple(container["args"]) == service.command
    own = {one["name"]: one["value"].replace("/run/secrets/pyama/", "/run/secrets/") for one in container["env"]}
    assert read_env_file(BASE / "pyama.env") | own == service.environment
    mounted = {Path(value).name for name, value in own.items() if name.endswith("_FILE")}
    (secret,) = (volume["secret"] for volume in pods[service.name]["volumes"] if "secret" in volume)
    assert {item["path"] for item in secret["items"]} == mounted
    ports = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        # A worker is unwell while Prefect is away: to kill it for that would end what it computes.
        spared = service.name in {"worker", "control-worker"} and probe != "readinessProbe"
        assert (probe in container) == (bool(service.health_check) and not spared)
        if probe in container:
            asked = container[probe]["httpGet"]
            url = f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}"
            assert service.health_check == ("python", "-m", "deployments.answers", url)


def test_services_of_kubernetes_are_where_the_settings_say() -> None:
    ports = {
        (found["metadata"]["name"], port["port"])
        for found in base_objects()
        if found["kind"] == "Service"
        for port in found["spec"]["ports"]
    }
    settings = read_env_file(BASE / "pyama.env")
    asked = {re.sub(r"^\w+://([^/]+).*", r"\1", settings[name]) for name in ("PYAMA_DASK_ADDRESS", "PREFECT_API_URL")}
    assert {f"{name}:{port}" for name, port in ports} >= asked | {"postgres:5432"}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector, with the operators that are in use here, finds what has these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    assert all(term["operator"] == "NotIn" for term in selector.get("matchExpressions", []))
    return selector.get("matchLabels", {}).items() <= labels.items() and not any(
        labels.get(term["key"]) in term["values"] for term in selector.get("matchExpressions", [])
    )


@dataclass(frozen=True)
class Peer:
    """Who asks for a connection."""

    labels: dict[str, str]
    namespace: str = "pyama"

    def is_of(self, term: dict[str, Any]) -> bool:
        """Whether it is one of those that a term of a policy lets in."""
        assert term.keys() <= {"podSelector", "namespaceSelector"}
        named = {"kubernetes.io/metadata.name": self.namespace}
        of_namespace = (
            selects(term["namespaceSelector"], named) if "namespaceSelector" in term else self.namespace == "pyama"
        )
        return of_namespace and selects(term.get("podSelector", {}), self.labels)


def admits(objects: list[dict[str, Any]], pod: dict[str, str], port: int, peer: Peer) -> bool:
    """Whether the policies together let a peer in at a port of the pod that has these labels."""
    policies = [one["spec"] for one in objects if one["kind"] == "NetworkPolicy"]
    chosen = [policy for policy in policies if selects(policy["podSelector"], pod)]
    rules = [rule for policy in chosen for rule in policy["ingress"]]
    return not chosen or any(
        ("ports" not in rule or {"port": port} in rule["ports"])
        and ("from" not in rule or any(peer.is_of(term) for term in rule["from"]))
        for rule in rules
    )


def labels_of_pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Labels of pods by the name of their program."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]["metadata"]["labels"]
        for found in objects
        if found["kind"] in {"Deployment", "StatefulSet", "Job"}
    }


STRANGER = Peer({}, "elsewhere")
PROMETHEUS = Peer({}, "monitoring")
OPERATOR = Peer({}, "dask-operator")


def test_policies_let_in_whoever_has_to_and_nobody_else(built: list[dict[str, Any]]) -> None:
    pods = labels_of_pods(built)
    assert pods.keys() == SERVICES.keys() | {"postgres"}
    for name, labels in pods.items():
        assert admits(built, pods["postgres"], 5432, Peer(labels)) == (name == "prefect"), name
        assert not admits(built, pods["postgres"], 22, Peer(labels))
        assert admits(built, pods["prefect"], 4200, Peer(labels))
        assert admits(built, pods["dask-scheduler"], 8786, Peer(labels))
        assert admits(built, labels, 8000, STRANGER) == (name == "api")
        for peer, admitted in ((STRANGER, set()), (Peer({}), set()), (PROMETHEUS, {"dask-scheduler"})):
            assert not any(admits(built, labels, port, peer) for port in (4200, 5432, 8080, 8786, 8788))
            assert admits(built, labels, 8787, peer) == (name in admitted)


# Dask clusters of runs


@pytest.fixture
def cluster(built_with_clusters: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The cluster that a run asks for, by the settings that its worker has."""
    (settings,) = (found for found in built_with_clusters if found["kind"] == "ConfigMap")
    for name, value in settings["data"].items():
        monkeypatch.setenv(name, value)
    read = ClusterSettings.from_environment()
    assert read.cluster_class == "dask_kubernetes.operator.KubeCluster"
    assert read.adapt_kwargs is not None
    kwargs = read.cluster_kwargs_of("0a1b2c3d-4e5f-6789-abcd-ef0123456789")
    assert kwargs["namespace"] == "pyama"
    described: dict[str, Any] = kwargs["custom_cluster_spec"]
    return described


def pods_of(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Pods that Dask's operator makes of a cluster: its labels are theirs."""
    return {
        part: {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": part, "labels": cluster["metadata"]["labels"] | {"dask.org/component": part}},
            "spec": cluster["spec"][part]["spec"],
        }
        for part in ("scheduler", "worker")
    }


def test_only_runs_may_start_clusters_and_no_other_dask_is_there(built_with_clusters: list[dict[str, Any]]) -> None:
    for found in built_with_clusters:
        kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)
    pods = dict(pod_templates(built_with_clusters))
    assert pods.keys() == SERVICES.keys() - {"dask-scheduler", "dask-worker"} | {"postgres"}
    assert {name for name, pod in pods.items() if pod["automountServiceAccountToken"]} == {"worker"}
    of_kind = {found["kind"]: found for found in built_with_clusters}
    account = {"kind": "ServiceAccount", "name": pods["worker"]["serviceAccountName"], "namespace": "pyama"}
    assert of_kind["ServiceAccount"]["metadata"]["name"] == account["name"]
    assert of_kind["RoleBinding"]["subjects"] == [account]
    assert of_kind["RoleBinding"]["roleRef"]["name"] == of_kind["Role"]["metadata"]["name"]
    rights = {name: set(rule["verbs"]) for rule in of_kind["Role"]["rules"] for name in rule["resources"]}
    assert rights["daskclusters"] >= {"get", "list", "create", "delete"}
    assert rights["pods"] == {"get", "list", "watch"}


def test_pods_of_clusters_are_held_to_what_all_pods_are(cluster: dict[str, Any]) -> None:
    usual = dict(pod_templates(base_objects()))["dask-worker"]
    for part, pod in pods_of(cluster).items():
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
        for term in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
            assert pod["spec"][term] == usual[term], part
        (container,), (own,) = pod["spec"]["containers"], usual["containers"]
        assert container["securityContext"] == own["securityContext"]


def test_policies_let_clusters_reach_what_they_need(
    built_with_clusters: list[dict[str, Any]], cluster: dict[str, Any]
) -> None:
    objects, programs = built_with_clusters, labels_of_pods(built_with_clusters)
    made = {part: pod["metadata"]["labels"] for part, pod in pods_of(cluster).items()}
    assert admits(objects, programs["prefect"], 4200, Peer(made["worker"]))
    assert not admits(objects, programs["postgres"], 5432, Peer(made["worker"]))
    for peer in (made["worker"], programs["worker"]):
        assert admits(objects, made["scheduler"], 8786, Peer(peer))
    for port in (8786, 8787):
        assert admits(objects, made["scheduler"], port, OPERATOR)
        assert not admits(objects, made["scheduler"], port, STRANGER)
    assert not any(admits(objects, labels, 8788, OPERATOR) for labels in made.values())


def test_an_image_can_have_what_starts_clusters() -> None:
    text = CONTAINERFILE.read_text()
    (extra,) = set(re.findall(r"--build-arg EXTRAS=(\w+)", text + (DASK_KUBERNETES / "README.md").read_text()))
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (package,) = re.findall(r"^RUN pip install .* (\S+)$", text, re.MULTILINE)
    for extras, expected in (("", "."), (extra, f".[{extra}]")):
        shown = subprocess.run(
            ["sh", "-c", f"echo {package}"], env={"EXTRAS": extras}, capture_output=True, text=True, check=True
        )
        assert shown.stdout == f"{expected}\n"


# systemd


def unit(path: Path) -> dict[tuple[str, str], list[str]]:
    """Values of a unit by section and name; those of the same name are kept in order."""
    values: dict[tuple[str, str], list[str]] = defaultdict(list)
    section = ""
    for line in path.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        name, separator, value = line.partition("=")
        assert separator, line
        values[section, name].append(value)
    return values


def units() -> dict[str, dict[tuple[str, str], list[str]]]:
    """All services, by the name of their program."""
    return {path.stem.removeprefix("pyama-"): unit(path) for path in SYSTEMD.glob("pyama-*.service")}


COMMON = SYSTEMD / "pyama-.service.d" / "common.conf"
_OWN_PORTS = {"control-worker": {"PREFECT_WORKER_WEBSERVER_PORT": "8081"}}
"""Two workers share the ports of a server, which are their own in containers."""


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())
def test_systemd_runs_what_compose_does(service: Service) -> None:
    assert units().keys() == SERVICES.keys()
    described = units()[service.name]
    (command,) = described["Service", "ExecStart"]
    here = [re.sub(r"0\.0\.0\.0|dask-scheduler(?=:)", "127.0.0.1", word) for word in service.command]
    assert shlex.split(command) == ["/opt/pyama/venv/bin/python", *image_entrypoint()[1:], *here]
    own = dict(
        word.split("=", 1)
        for line in [*unit(COMMON)["Service", "Environment"], *described["Service", "Environment"]]
        for word in shlex.split(line)
    )
    credentials = {
        line.partition(":")[0]
        for line in [*unit(COMMON)["Service", "LoadCredential"], *described["Service", "LoadCredential"]]
    }
    assert {value.removeprefix("%d/") for name, value in own.items() if name.endswith("_FILE")} == credentials
    expected = {
        name: re.sub(r"0\.0\.0\.0|^postgres$", "127.0.0.1", value).replace("/run/secrets/", "%d/")
        for name, value in service.environment.items()
        if name not in read_env_file(COMPOSE_ENV)
    } | _OWN_PORTS.get(service.name, {})
    usual = {"PATH", "PYTHONUNBUFFERED", "PYAMA_HOME", "PREFECT_HOME", "NUMBA_CACHE_DIR"}
    assert {name: value for name, value in own.items() if name not in usual} == expected
    assert {name for name in own if name.endswith("_FILE")} <= {f"{name}_FILE" for name in (*SECRETS, "PYAMA_API_KEYS")}


def test_the_target_wants_all_units_and_stops_them() -> None:
    wanted = {name for line in unit(SYSTEMD / "pyama.target")["Unit", "Wants"] for name in line.split()}
    assert wanted == {path.name for path in SYSTEMD.glob("pyama-*.service")}
    assert unit(COMMON)["Unit", "PartOf"] == ["pyama.target"]


def test_only_who_computes_may_write_where_results_are() -> None:
    writers = {name for name, found in units().items() if ("Service", "ReadWritePaths") in found}
    assert writers == {"worker", "control-worker", "caretaker", "dask-worker", "api"}
    assert unit(COMMON)["Service", "ProtectSystem"] == ["strict"]


def test_systemd_takes_the_units_and_finds_them_well_guarded(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    folder = tmp_path / "units"
    shutil.copytree(SYSTEMD, folder)
    for path in folder.glob("*.service"):  # the program must be there
        path.write_text(path.read_text().replace("/opt/pyama/venv/bin/python", sys.executable))
    names = sorted(path.name for path in folder.glob("*.service"))
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    verify = [analyze, "verify", "--man=no", *(str(folder / name) for name in ("pyama.target", *names))]
    ended = subprocess.run(verify, env=environment, capture_output=True, text=True, check=False)
    complaints = [line for line in ended.stderr.splitlines() if "pyama" in line]
    assert (ended.returncode, complaints) == (0, [])
    for name in names:
        measure = [analyze, "security", "--offline=true", "--threshold=25", str(folder / name)]
        ended = subprocess.run(measure, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout[-400:]


# Monitoring


def test_the_targets_of_prometheus_are_where_the_profiles_have_them(built: list[dict[str, Any]]) -> None:
    """Held to what listens in each; whom the policies of Kubernetes let in is a test of its own."""
    text = (ROOT / "docs" / "operations.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    jobs = {job["job_name"]: job for job in yaml.safe_load(example)["scrape_configs"]}
    rules = (ROOT / "deployments" / "monitoring" / "pyama.rules.yml").read_text()
    assert jobs.keys() == set(re.findall(r'up\{job="([a-z-]+)"\}', rules))
    assert jobs["pyama"]["scheme"] == "https"  # all profiles publish it at the loopback address, or not at all
    targets = re.findall(r"^\| .* \| `(\S+):8787` \|$", text, re.MULTILINE)
    described = read_compose()
    (namespace,) = {one["metadata"]["namespace"] for one in built if one["kind"] == "Service"}
    (started,) = units()["dask-scheduler"]["Service", "ExecStart"]
    in_compose, in_kubernetes, on_a_server = targets
    assert jobs["pyama-dask"]["static_configs"] == [{"targets": [f"{in_compose}:8787"]}]
    assert described["services"][in_compose]["networks"] == ["inside"]
    assert f"`{described['name']}_inside`" in text
    assert "0.0.0.0:8787" in described["services"][in_compose]["command"]
    assert in_kubernetes in {f"{one['metadata']['name']}.{namespace}" for one in built if one["kind"] == "Service"}
    assert f"--dashboard-address {on_a_server}:8787" in started


# CI


def test_the_example_of_a_workflow_keeps_to_its_schema() -> None:
    path = ROOT / "deployments" / "ci" / "process-recording.yml"
    check = [from_venv("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(path)]
    ended = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
