"""The container file: what it says, what its install steps do, and the build where one can be."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from manifests import INFRA, KUBERAY, ROOT

DOCKERFILE = INFRA / "Dockerfile"
# What the install steps name by its place in the image.
PLACES = r"(?<![\w.])/(opt/tandem|dist|src|models|constraints\.txt)(?![\w-])"


@dataclass(frozen=True)
class Step:
    stage: str
    word: str
    rest: str


def steps():
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found, stage = [], ""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stage = rest.split(" AS ")[1]
        found.append(Step(stage, word, re.sub(r"\s+", " ", rest)))
    return found


def bases():
    return {step.stage: step.rest.split(" AS ")[0] for step in steps() if step.word == "FROM"}


def test_bases_are_pinned_and_packages_exact():
    versions = [step.rest for step in steps() if step.word == "ARG" and step.stage == ""]
    assert [bool(re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-[a-z]+", one)) for one in versions] == [
        True
    ]
    for base in bases().values():
        assert base == "python:${PYTHON}" or base in bases()
    for step in steps():
        if step.word == "RUN" and "pip install" in step.rest:
            exact = re.search(r"--constraint /constraints\.txt|\w==\d", step.rest)
            assert exact, step.rest


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_target_is_no_root_s_and_asks_no_hub(target):
    own = [step for step in steps() if step.stage == target]
    words = [step.word for step in own]
    assert words[-2:] == ["USER", "ENTRYPOINT"]
    assert own[-2].rest == "10001:10001"
    offline = [n for n, step in enumerate(own) if "HF_HUB_OFFLINE=1" in step.rest]
    fetched = [n for n, step in enumerate(own) if "models fetch" in step.rest]
    assert fetched[-1] < offline[0]
    (copied,) = [step.rest for step in own if step.word == "COPY"]
    assert copied == f"--from=packages-{target} /opt/tandem /opt/tandem"


def test_secrets_are_mounted_and_enter_no_layer():
    for step in steps():
        assert not (step.word in ("ARG", "ENV") and re.search("TOKEN|SECRET|KEY", step.rest))
        for secret in re.findall(r"/run/secrets/(\w+)", step.rest):
            assert f"--mount=type=secret,id={secret} " in step.rest


def test_all_that_is_copied_gets_past_the_ignore_file():
    ignored = (INFRA / "Dockerfile.dockerignore").read_text().splitlines()
    passed = {line[1:] for line in ignored if line.startswith("!")}
    copied = set()
    for step in steps():
        if step.word == "COPY" and "--from" not in step.rest:
            copied |= set(step.rest.split()[:-1])
    assert copied == passed
    assert all((ROOT / name).exists() for name in copied)


def answers(*words):
    return not subprocess.run(words, capture_output=True, check=False).returncode


def builder():
    """What builds images here and has the image to begin with; skips where there is none."""
    (version,) = [step.rest for step in steps() if step.word == "ARG" and step.stage == ""]
    for name, options in (
        ("docker", []),
        ("buildah", ["--ignorefile", f"{DOCKERFILE}.dockerignore"]),
    ):
        if shutil.which(name) and answers(name, "info"):
            if not answers(name, "pull", f"python:{version.removeprefix('PYTHON=')}"):
                pytest.skip(f"{name} cannot pull the image to begin with")
            return [name, "build", *options]
    pytest.skip("no builder answers: neither docker's daemon nor buildah")


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_the_image_is_built(target):
    words = [*builder(), "--file", str(DOCKERFILE), "--target", target, "--tag", f"test-{target}"]
    built = subprocess.run([*words, str(ROOT)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]


class Image:
    """A folder that stands for the image while install steps run."""

    def __init__(self, folder):
        self.folder, self.here = folder, folder
        python = folder / "python"
        subprocess.run([sys.executable, "-m", "venv", str(python)], check=True)
        plain = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        self.environment = plain | {"PATH": f"{python}/bin:{os.environ['PATH']}"}

    def inside(self, text):
        return re.sub(PLACES, lambda found: f"{self.folder}/{found[1]}", text)

    def carry_out(self, step):
        if step.word == "WORKDIR":
            self.here = Path(self.inside(step.rest))
            self.here.mkdir(parents=True)
        elif step.word == "ARG":
            name, _, value = step.rest.partition("=")
            self.environment[name] = value
        elif step.word == "COPY" and "--from" not in step.rest:
            *names, target = step.rest.split()
            for name in names:
                self.copy(ROOT / name, self.here / self.inside(target), len(names) > 1)
        elif step.word == "RUN":
            self.run(re.sub(r"--mount=\S+ ", "", self.inside(step.rest)))

    def copy(self, source, target, into):
        leave = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, target, ignore=leave)
        else:
            shutil.copy(source, target / source.name if into else target)

    def run(self, command, folder=None):
        result = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder or self.here,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, (command, result.stdout[-2000:], result.stderr[-2000:])
        return result.stdout


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_the_install_steps_make_an_environment_that_indexes_and_reranks(tmp_path):
    image = Image(tmp_path)
    stages = ("wheel", "packages", "packages-cpu")
    assert {step.stage for step in steps()} >= set(stages)
    for step in steps():
        if step.stage in stages:
            image.carry_out(step)
    image.environment["PATH"] = f"{tmp_path}/opt/tandem/bin:{image.environment['PATH']}"
    image.environment["MODELS"] = "bundled"
    (fetch,) = [step for step in steps() if step.stage == "cpu" and "models fetch" in step.rest]
    image.carry_out(fetch)
    (model,) = (tmp_path / "models" / "bundled").iterdir()
    raw = yaml.safe_load((KUBERAY / "overlays" / "dev" / "tandem.yaml").read_text())
    raw["encoder"]["model"] = str(model)
    raw["corpus"]["paths"] = ["bisect", "heapq"]
    raw["table"]["uri"], raw["output"]["path"] = str(tmp_path / "index"), str(tmp_path / "run")
    for key in ("paths", "qrels"):
        value = raw["queries"][key]
        raw["queries"][key] = yaml.safe_load(image.inside(yaml.safe_dump(value)))
    (tmp_path / "tandem.yaml").write_text(yaml.safe_dump(raw))
    python = tmp_path / "opt" / "tandem" / "bin" / "python"
    where = image.run(f"{python} -c 'import jobs, torch, openvino; print(jobs.__file__)'", "/")
    assert where.startswith(str(tmp_path / "opt" / "tandem"))
    for command in ("index", "rerank"):
        image.run(f"{python} -m jobs {command} {tmp_path}/tandem.yaml", "/")
    assert (tmp_path / "run" / "reranked.parquet").exists()
