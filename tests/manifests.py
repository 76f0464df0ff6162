"""The manifests of infra/, as files and as kustomize builds them, and schemas that refuse more."""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
INFRA = ROOT / "infra"
KUBERAY = INFRA / "kuberay"
OVERLAYS = ("dev", "prod")


def documents(file):
    return [found for found in yaml.safe_load_all(file.read_text(encoding="utf-8")) if found]


def manifest_files():
    """The files that hold what Kubernetes takes as it stands."""
    files = sorted(KUBERAY.rglob("*.yaml"))
    return [file for file in files if all(is_manifest(found) for found in documents(file))]


def is_manifest(found):
    kinds = ("Kustomization", "Component")
    return isinstance(found, dict) and "apiVersion" in found and found["kind"] not in kinds


@functools.cache
def _build(folder):
    words = ["kubectl", "kustomize", str(folder)]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return built.stdout


def built(folder):
    """What kustomize makes of a folder."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed, and so no kustomize")
    return [found for found in yaml.safe_load_all(_build(folder)) if found]


def overlay(name):
    return built(KUBERAY / "overlays" / name)


def of_kind(found, kind):
    return [manifest for manifest in found if manifest["kind"] == kind]


def closed(schema):
    """The schema with every object that lists its fields refusing others."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    shut = {key: closed(value) for key, value in schema.items()}
    opened = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not opened:
        shut.setdefault("additionalProperties", False)
    return shut


@functools.cache
def _kuberay(folder, kind):
    schema = json.loads((Path(folder) / f"{kind}-v1.json").read_text(encoding="utf-8"))
    return jsonschema.Draft202012Validator(closed(schema))


def require_kuberay_takes(manifest):
    """Check a manifest against KubeRay's schema, which lists all fields there are.

    Raises:
        jsonschema.ValidationError: a field is unknown, missing or of another type.
    """
    folder = os.environ.get("TANDEM_SCHEMAS")
    if folder is None:
        pytest.skip("TANDEM_SCHEMAS names no folder with KubeRay's schemas")
    _kuberay(folder, manifest["kind"]).validate(manifest)


def pod_specs(manifest):
    """Every pod that a manifest asks for, by what it is for."""
    if manifest["kind"] == "CronJob":
        return {"nightly": manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]}
    if manifest["kind"] != "RayJob":
        return {}
    cluster = manifest["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    templates = {
        "submitter": manifest["spec"]["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **groups,
    }
    return {name: template["spec"] for name, template in templates.items()}
