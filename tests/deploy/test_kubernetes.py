"""The Kubernetes manifests, as far as it goes without a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml

from fleet.enrolment import LearnerAddress, enrol_robot, ensure_learner_keys
from learner.config import LearnerConfig
from learner.placement import places_of
from protocol.configuration import load_toml
from protocol.registry import Registry
from protocol.security import load_curve_keys, load_release_secret

GATEWAYS = ["ingestion-1", "ingestion-2"]
FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUBERNETES = "1.34"
Table = dict[str, Any]


def documents(name: str) -> list[Table]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def one_of(kind: str) -> Table:
    (found,) = (one for one in documents("graspfleet.yaml") if one["kind"] == kind)
    return found


def groups() -> dict[str, Table]:
    spec = one_of("RayCluster")["spec"]
    workers = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"], **workers}


def pod_of(group: Table) -> Table:
    pod: Table = group["template"]["spec"]
    return pod


@pytest.fixture
def config(tmp_path: Path) -> LearnerConfig:
    path = tmp_path / "learner.toml"
    path.write_text(one_of("ConfigMap")["data"]["learner.toml"])
    return load_toml(path, LearnerConfig)


def test_kubernetes_accepts_the_core_objects():
    core = [one for one in documents("graspfleet.yaml") if one["apiVersion"] == "v1"]
    assert {one["kind"] for one in core} == {"ConfigMap", "PersistentVolumeClaim", "Service"}
    for one in core:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["head", *GATEWAYS, "training"])
def test_kubernetes_accepts_the_pods(name: str):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
    kubernetes_validate.validate(pod | {"spec": pod_of(groups()[name])}, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", ["head", *GATEWAYS, "training"])
def test_what_a_pod_mounts_is_a_volume_of_it(name: str):
    pod = pod_of(groups()[name])
    volumes = {one["name"] for one in pod["volumes"]}
    containers = pod["containers"] + pod.get("initContainers", [])
    assert {mount["name"] for one in containers for mount in one["volumeMounts"]} == volumes


def test_claims_and_configuration_that_pods_name_are_in_the_same_file():
    named = {
        volume[kind][key]
        for group in groups().values()
        for volume in pod_of(group)["volumes"]
        for kind, key in [("persistentVolumeClaim", "claimName"), ("configMap", "name")]
        if kind in volume
    }
    made = {one["metadata"]["name"] for one in documents("graspfleet.yaml")}
    assert named - made == {"graspfleet-registry"}  # the lab's own, see the head of the file


def test_every_place_that_the_configuration_names_has_a_group(config: LearnerConfig):
    for place in places_of(config):
        assert f'\\"{place}\\": 1' in groups()[place]["rayStartParams"]["resources"]


def test_each_part_finds_its_folders_on_a_disk_that_lasts(config: LearnerConfig):
    claimed = {
        name: [
            mount["mountPath"]
            for mount in pod_of(group)["containers"][0]["volumeMounts"]
            for volume in pod_of(group)["volumes"]
            if volume["name"] == mount["name"] and "persistentVolumeClaim" in volume
        ]
        for name, group in groups().items()
    }
    for place, folder in [
        *((gateway.place, gateway.store) for gateway in config.gateways),
        (config.releases.place, config.releases.folder),
        (config.training.place, config.run_folder),
    ]:
        assert any(folder.is_relative_to(path) for path in claimed[place])


def test_no_two_pods_write_to_one_disk():
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for group in groups().values()
        for volume in pod_of(group)["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert len(set(claims)) == len(claims) == len(GATEWAYS) + 1


@pytest.mark.parametrize("place", GATEWAYS)
def test_robots_reach_every_gateway_and_the_releases_by_a_service_of_their_place(
    place: str, config: LearnerConfig
):
    (service,) = (
        one["spec"]
        for one in documents("graspfleet.yaml")
        if one["kind"] == "Service" and one["spec"]["selector"]["ray.io/group"] == place
    )
    assert service["selector"]["ray.io/cluster"] == one_of("RayCluster")["metadata"]["name"]
    binds = [one.bind for one in (*config.gateways, config.releases) if one.place == place]
    ports = [bind.rpartition(":")[2] for bind in binds]
    assert [str(port["targetPort"]) for port in service["ports"]] == ports
    container = pod_of(groups()[place])["containers"][0]
    assert [str(port["containerPort"]) for port in container["ports"]] == ports


def test_every_gateway_has_a_name_of_its_own_under_which_robots_reach_its_service(
    config: LearnerConfig,
):
    assert [one.place for one in config.gateways] == GATEWAYS
    services = [one["spec"] for one in documents("graspfleet.yaml") if one["kind"] == "Service"]
    reached = [service["ports"][0]["port"] for service in services]
    assert [int(one.advertise.rpartition(":")[2]) for one in config.gateways] == reached
    assert len({one.advertise for one in config.gateways}) == len(GATEWAYS)


def test_ray_is_the_version_that_is_installed():
    assert one_of("RayCluster")["spec"]["rayVersion"] == ray.__version__


def test_the_job_runs_the_learner_with_a_file_that_its_head_mounts():
    (job,) = documents("rayjob.yaml")
    *command, config = job["spec"]["entrypoint"].split()
    assert command == ["python", "-m", "learner", "--config"]
    mounts = pod_of(groups()["head"])["containers"][0]["volumeMounts"]
    assert str(Path(config).parent) in {mount["mountPath"] for mount in mounts}
    assert Path(config).name in one_of("ConfigMap")["data"]
    cluster = job["spec"]["clusterSelector"]["ray.io/cluster"]
    assert cluster == one_of("RayCluster")["metadata"]["name"]


@pytest.mark.parametrize("place", [*GATEWAYS, "training"])
def test_secrets_as_kubernetes_mounts_them_become_what_the_learner_accepts(
    place: str, config: LearnerConfig, tmp_path: Path
):
    made = tmp_path / "made"
    ensure_learner_keys(made, Registry(tmp_path / "registry"))
    secret = tmp_path / "secret"
    mount(secret, {name: (made / name).read_bytes() for name in keys_of(place)}, mode=0o440)
    private = tmp_path / "private"
    private.mkdir()
    private.chmod(0o777)  # as an emptyDir is

    (container,) = pod_of(groups()[place])["initContainers"]
    *shell, script = container["command"]
    for mounted, here in [("secret", secret), ("private", private)]:
        script = script.replace(f"/srv/graspfleet/{mounted}", str(here))
    subprocess.run([*shell, script], check=True)

    if place in (config.releases.place, config.training.place):
        load_release_secret(within(private, config.keys.release_secret))
    if place in GATEWAYS:
        load_curve_keys(within(private, config.keys.server_secret))


def test_no_pod_has_a_key_that_it_does_not_need(config: LearnerConfig):
    assert keys_of(config.training.place) == [config.keys.release_secret.name]
    assert keys_of("ingestion-2") == [config.keys.server_secret.name]


def keys_of(place: str) -> list[str]:
    """Return the keys of the secret that a pod mounts: all of them unless it names some."""
    (volume,) = (one["secret"] for one in pod_of(groups()[place])["volumes"] if "secret" in one)
    items = volume.get("items", [{"path": "server.secret"}, {"path": "release.secret"}])
    return [item["path"] for item in items]


def within(private: Path, path: Path) -> Path:
    return private / path.relative_to("/srv/graspfleet/private")


def mount(folder: Path, files: dict[str, bytes], *, mode: int, version: int = 1) -> None:
    """Lay files out as the kubelet does: links to a folder that is changed for the next at once."""
    data = folder / f"..version_{version}"
    data.mkdir(parents=True)
    for name, content in files.items():
        (data / name).write_bytes(content)
        (data / name).chmod(mode)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_next").symlink_to(data.name)
    (folder / "..data_next").replace(folder / "..data")


def test_robots_are_enrolled_by_changing_the_mounted_registry(tmp_path: Path):
    made = tmp_path / "made"
    registry = Registry(made)
    keys = tmp_path / "keys"
    ensure_learner_keys(keys, registry)
    address = LearnerAddress(keys=keys, episodes="tcp://l:5701", releases="tcp://l:5702")
    mounted = tmp_path / "registry"
    mount(mounted, contents(made), mode=0o644)
    seen = Registry(mounted)
    assert [member.name for member in seen.members()] == ["operator"]

    enrol_robot(registry, "arm-1", tmp_path / "bundle", address)
    mount(mounted, contents(made), mode=0o644, version=2)
    assert [member.name for member in seen.members()] == ["arm-1", "operator"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
