"""What stands in infra/ for clusters: valid to those who read it, and nothing that must not be."""

import copy
import functools
import json
import re
import shutil
import tomllib

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import (
    INFRA,
    KUBERAY,
    OVERLAYS,
    ROOT,
    built,
    documents,
    manifest_files,
    of_kind,
    overlay,
    pod_specs,
    require_kuberay_takes,
)

from pipelines.config_file import load_config
from pipelines.interrupt import DRAIN_SECONDS

KUBERNETES = "1.32"
# What Ray's processes may take to end after SIGTERM.
RAY_SECONDS = 20
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
RAY = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
TEXTS = [file for file in INFRA.rglob("*") if file.is_file() and "benchmarks" not in file.parts]


@functools.cache
def _taken_by_kubernetes(manifest):
    kubernetes_validate.validate(json.loads(manifest), KUBERNETES, strict=True)


def validate(manifest):
    if manifest["apiVersion"].startswith("ray.io/"):
        require_kuberay_takes(manifest)
        for spec in pod_specs(manifest).values():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
            _taken_by_kubernetes(json.dumps(pod))
    else:
        _taken_by_kubernetes(json.dumps(manifest))


def everything():
    return [found for name in OVERLAYS for found in overlay(name)]


@pytest.mark.parametrize("file", manifest_files(), ids=lambda file: file.name)
def test_every_manifest_is_what_kubernetes_and_kuberay_take(file):
    for manifest in documents(file):
        validate(manifest)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_is_what_kubernetes_and_kuberay_take(name):
    found = overlay(name)
    for manifest in found:
        validate(manifest)
    kinds = [manifest["kind"] for manifest in found]
    assert kinds.count("RayJob") == 2
    assert kinds.count("CronJob") == 1
    assert "Secret" not in kinds


def test_models_that_are_fetched_at_the_start_are_an_overlay_s_one_line(tmp_path):
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    prod = tmp_path / "kuberay" / "overlays" / "prod"
    line = "components: [../../fetch-models]\n"
    with (prod / "kustomization.yaml").open("a") as file:
        file.write(line)
    assert line.strip() in (KUBERAY / "fetch-models" / "kustomization.yaml").read_text()
    for manifest in built(prod):
        validate(manifest)
        for name, spec in pod_specs(manifest).items():
            if name in ("head", "cpu", "gpu"):
                assert [one["name"] for one in spec["initContainers"]] == ["fetch-models"]
                assert "/models" in mounts(spec)
    prod = load_config(KUBERAY / "overlays" / "prod" / "tandem.yaml")
    (_, _, _, encoder, reranker, *to) = spec_of_fetching()["command"]
    assert to == ["--to", "/models"]
    for name, model in ((encoder, prod.encoder.model), (reranker, prod.reranker.model)):
        plain, revision = name.split("@")
        assert model == f"/models/{plain.replace('/', '--')}/{revision}"


def spec_of_fetching():
    (changes,) = documents(KUBERAY / "fetch-models" / "pods.yaml")
    return changes[0]["value"][0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "retries"), 1),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplica"), 1),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "host"), "a"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "none"),
        (("spec", "activeDeadlineSeconds"), "long"),
    ],
)
def test_a_field_that_kuberay_does_not_know_is_refused(path, value):
    (manifest,) = documents(KUBERAY / "base" / "rayjob" / "rayjob.yaml")
    validate(manifest)
    *owners, last = path
    place = manifest
    for owner in owners:
        place = place[owner]
    place[last] = value
    with pytest.raises(jsonschema.ValidationError):
        require_kuberay_takes(manifest)


def test_a_field_that_kubernetes_does_not_know_is_refused():
    nightly = documents(KUBERAY / "base" / "nightly.yaml")[0]
    validate(nightly)
    nightly["spec"]["concurrency"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(nightly)


def test_what_kuberay_s_operator_asks_for_beyond_its_schema():
    for job in of_kind(everything(), "RayJob"):
        spec = job["spec"]
        # A suspended job has to be one that is shut down, and that excludes a deletionStrategy.
        assert spec["suspend"]
        assert spec["shutdownAfterJobFinishes"]
        assert "deletionStrategy" not in spec
        assert spec["backoffLimit"] == 1
        assert spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
        cluster = spec["rayClusterSpec"]
        assert cluster["rayVersion"] == RAY
        assert cluster["enableInTreeAutoscaling"]
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    gpu = {
        group["groupName"]: group["minReplicas"]
        for job in of_kind(overlay("prod"), "RayJob")
        for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    }
    assert gpu == {"cpu": 1, "gpu": 0}


def test_a_night_runs_the_templates_that_exist_and_ends_before_the_next():
    for name in OVERLAYS:
        found = overlay(name)
        (nightly,) = of_kind(found, "CronJob")
        job = nightly["spec"]["jobTemplate"]["spec"]
        (container,) = job["template"]["spec"]["containers"]
        jobs = {one["metadata"]["name"]: one["spec"] for one in of_kind(found, "RayJob")}
        assert container["command"][2:] == ["tandem-index", "tandem-rerank"] == [*jobs]
        assert nightly["spec"]["concurrencyPolicy"] == "Forbid"
        longest = sum(
            spec["activeDeadlineSeconds"] * (spec["backoffLimit"] + 1) for spec in jobs.values()
        )
        assert longest <= job["activeDeadlineSeconds"] < 24 * 3600
        (rule,) = [r for r in job["podFailurePolicy"]["rules"] if r["action"] == "FailJob"]
        assert rule["onExitCodes"]["values"] == [1, 2, 3, 4]


def test_the_night_s_account_may_read_and_create_runs_and_nothing_else():
    for name in OVERLAYS:
        (role,) = of_kind(overlay(name), "Role")
        (binding,) = of_kind(overlay(name), "RoleBinding")
        assert role["rules"] == [
            {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "create"]}
        ]
        assert [subject["name"] for subject in binding["subjects"]] == ["tandem-nightly"]


def mounts(spec):
    return {mount["mountPath"] for mount in spec["containers"][0].get("volumeMounts", [])}


def references(spec):
    """What a pod refers to, as kinds and names."""
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"]


def test_what_a_pod_refers_to_is_there():
    for name in OVERLAYS:
        found = overlay(name)
        there = {(one["kind"], one["metadata"]["name"]) for one in found}
        asked = [
            reference
            for manifest in found
            for spec in pod_specs(manifest).values()
            for reference in references(spec)
        ]
        assert set(asked) <= there
        assert {kind for kind, _ in asked} >= {"ServiceAccount", "ConfigMap"}


def test_no_pod_may_do_more_than_it_needs():
    for manifest in everything():
        for name, spec in pod_specs(manifest).items():
            about = spec["securityContext"]
            assert about["runAsNonRoot"]
            assert about["runAsUser"] == about["runAsGroup"] == 10001
            assert about["seccompProfile"] == {"type": "RuntimeDefault"}
            assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
            assert not any("hostPath" in volume for volume in spec.get("volumes", []))
            # Those that ask Kubernetes for something have a token.
            assert spec.get("automountServiceAccountToken", True) == (name in ("head", "nightly"))
            for container in (*spec["containers"], *spec.get("initContainers", [])):
                require_unprivileged(container["securityContext"])
                asked, most = container["resources"]["requests"], container["resources"]["limits"]
                assert asked.keys() >= {"cpu", "memory"}
                assert most.keys() == asked.keys()
    for job in of_kind(everything(), "RayJob"):
        require_unprivileged(job["spec"]["rayClusterSpec"]["autoscalerOptions"]["securityContext"])
    (namespace,) = of_kind(overlay("prod"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def require_unprivileged(about):
    assert about == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_a_pod_of_ray_s_drains_before_it_is_killed():
    for name in OVERLAYS:
        found = overlay(name)
        (environment,) = [
            one["data"]
            for one in of_kind(found, "ConfigMap")
            if one["metadata"]["name"].startswith("tandem-environment-")
        ]
        assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) > DRAIN_SECONDS
        assert environment["RAY_idle_worker_killing_time_threshold_ms"] == "600000"
        assert environment["HF_HUB_OFFLINE"] == "1"
        assert environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == "0"
        for job in of_kind(found, "RayJob"):
            specs = pod_specs(job)
            del specs["submitter"]
            assert specs.keys() >= {"head", "cpu"}
            for group, spec in specs.items():
                (container,) = spec["containers"]
                *command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
                role = "head" if group == "head" else "worker"
                assert command == ["/bin/sh", "/opt/tandem-scripts/drain.sh", role]
                seconds = int(seconds)
                assert seconds > DRAIN_SECONDS
                assert spec["terminationGracePeriodSeconds"] >= seconds + RAY_SECONDS
                assert {"/etc/tandem", "/opt/tandem-scripts", "/tmp"} <= mounts(spec)
                assert [port["containerPort"] for port in container["ports"]][-1] == 8080


def test_the_configurations_of_the_overlays_are_configurations():
    dev = load_config(KUBERAY / "overlays" / "dev" / "tandem.yaml")
    assert (dev.encoder.model, dev.reranker.model) == ("bundled", "bundled")
    dockerfile = (INFRA / "Dockerfile").read_text()
    python = re.search(r"^ARG PYTHON=(3\.\d+)\.\d+-", dockerfile, re.MULTILINE)[1]
    (log,) = dev.require_queries().paths
    packages = f"/opt/tandem/lib/python{python}/site-packages/"
    assert (ROOT / log.removeprefix(packages)).is_file()
    assert (ROOT / dev.require_queries().qrels.removeprefix(packages)).is_file()
    prod = load_config(KUBERAY / "overlays" / "prod" / "tandem.yaml")
    assert prod.table.uri.startswith("s3://")
    group = of_kind(overlay("prod"), "RayJob")[0]["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]
    for pool in (prod.resources.encoder, prod.resources.scorer):
        assert (pool.gpus, pool.actors.min, pool.actors.max) == (1, 0, group["maxReplicas"])
    raw = yaml.safe_load((KUBERAY / "overlays" / "prod" / "tandem.yaml").read_text())
    assert "storage_options" not in raw["table"]


def test_ray_s_launcher_takes_its_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    raw = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
    prepared = prepare_config(copy.deepcopy(raw))
    validate_config(prepared)
    kinds = prepared["available_node_types"]
    assert {name: kind["min_workers"] for name, kind in kinds.items()} == {
        "head": 0, "cpu": 1, "gpu": 0
    }  # fmt: skip
    assert raw["docker"]["image"] == f"rayproject/ray:{RAY}-py311"
    for commands in (raw["head_start_ray_commands"], raw["worker_start_ray_commands"]):
        assert "RAY_idle_worker_killing_time_threshold_ms=600000" in commands[-1]
        assert "RAY_AUTH_MODE=token" in commands[-1]
    broken = prepared | {"idle_minutes": 5}
    with pytest.raises(jsonschema.ValidationError):
        validate_config(broken)
    with pytest.raises(ValueError, match="head_node_type"):
        validate_config(prepared | {"head_node_type": "none"})


def images():
    """Every image that a file of infra/ names."""
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        yield from re.findall(r"^\s*(?:- )?image: (\S+)$", text, re.MULTILINE)
        yield from re.findall(r"^FROM (\S+:\S+)", text, re.MULTILINE)


def test_images_have_a_version_and_no_host():
    found = set(images())
    assert found == {
        f"tandem-cpu:{VERSION}",
        f"tandem-cuda:{VERSION}",
        "python:${PYTHON}",
        f"rayproject/ray:{RAY}-py311",
    }


HOSTS = r"docker\.io|ghcr\.io|quay\.io|gcr\.io|pkg\.dev|nvcr\.io|k8s\.io/[a-z-]+:|pypi|pythonhosted"
HOSTS += r"|pytorch\.org|huggingface\.co|\.dkr\.ecr|azurecr|https?://(?!127\.0\.0\.1)"
SECRETS = r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20}|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{32}"


def test_no_file_has_a_secret_or_a_host_of_a_registry():
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        for words in (HOSTS, SECRETS, r":latest\b", r"privileged: true", r"kind: Secret\b"):
            assert not re.search(words, text), (file.name, words)


def test_what_looks_like_a_secret_is_a_reference():
    for manifest in everything():
        for spec in pod_specs(manifest).values():
            for container in (*spec["containers"], *spec.get("initContainers", [])):
                for variable in container.get("env", []):
                    if re.search("TOKEN|SECRET|PASSWORD|KEY", variable["name"]):
                        assert "valueFrom" in variable, variable["name"]
    for job in of_kind(everything(), "RayJob"):
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {
            "mode": "token", "secretName": "tandem-ray-token"
        }  # fmt: skip
        assert "runtimeEnvYAML" not in job["spec"]


def test_the_page_names_every_file():
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    for file in TEXTS:
        if file.name != "README.md":
            assert f"`{file.relative_to(INFRA)}`" in page, file.name


def commands_of_the_page():
    page = (INFRA / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## From an empty cluster.*?```sh\n(.*?)```", page, re.DOTALL)[1]
    joined = block.replace("\\\n", " ")
    return [line.split(" # ")[0].strip() for line in joined.splitlines() if line.strip()]


def test_the_ten_commands_name_what_is_there():
    commands = commands_of_the_page()
    assert len(commands) <= 10
    found = overlay("prod")
    there = {(one["kind"].lower(), one["metadata"]["name"]) for one in found}
    namespaces = {name for kind, name in there if kind == "namespace"}
    for command in commands:
        for place in re.findall(r"infra/\S+", command):
            assert (ROOT / place).exists(), command
        for name in re.findall(r"kubectl -n (\S+)", command):
            assert name in namespaces, command
        for name in re.findall(r"--from=cronjob/(\S+)", command):
            assert ("cronjob", name) in there, command
        for tag in re.findall(r"--tag \S*?(tandem-\S+)", command):
            assert tag in set(images()), command
        for target in re.findall(r"--target (\S+)", command):
            assert f" AS {target}\n" in (INFRA / "Dockerfile").read_text(), command
    (token,) = [line for line in commands if "create secret" in line]
    assert "secret generic tandem-ray-token --from-literal=auth_token=" in token
