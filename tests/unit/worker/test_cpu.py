"""The plan follows what this process may really use: quota, affinity, setting, host, whichever is least."""

import os
from pathlib import Path

import pytest

from worker import cpu
from worker.settings import Settings


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A host of 16 cores whose control groups are files below a folder of this test; nothing limits yet."""
    own = tmp_path / "proc-self-cgroup"
    own.write_text("0::/\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cpu, "OWN_GROUPS", own)

    class Host:
        root = tmp_path / "cgroup"

        def member_of(self, *lines: str) -> None:
            own.write_text("".join(f"{line}\n" for line in lines))

        def v2(self, group: str, quota: str) -> None:
            folder = self.root / group.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.max").write_text(f"{quota}\n")

        def v1(self, group: str, quota_us: int, period_us: int = 100_000) -> None:
            folder = self.root / group.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{period_us}\n")

        def quota(self) -> float | None:
            return cpu.cgroup_quota(self.root)

        def plan(self, **chosen: int) -> cpu.Plan:
            return cpu.make_plan(Settings(**chosen), cgroup=self.root)

    return Host()


def test_without_limits_every_core_is_used(host):
    """No cgroup files at all, as on a Mac or in a bare process."""
    plan = host.plan()

    assert plan.threads == 16
    assert plan.why[0] == "16 inference threads: host cores allows 16."


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000", 2.0), ("50000 100000", 0.5), ("150000 50000", 3.0), ("max 100000", None)],
)
def test_a_quota_of_cgroup_v2_is_seen(host, text, cores):
    """``cpus: 2`` in a compose file is written so, at the root of what the container sees."""
    host.v2("/", text)

    assert host.quota() == cores


@pytest.mark.parametrize("text", ["", "max", "1 2 3", "a b", "100000 0", "\x00"])
def test_a_quota_file_that_makes_no_sense_is_no_quota(host, text):
    """An unreadable limit must not keep a worker from starting."""
    host.v2("/", text)

    assert host.quota() is None


@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
def test_a_quota_of_cgroup_v1_is_seen(host, controller):
    """In the container's own mount, and in the group that the kernel names, whatever else the hierarchy holds."""
    host.member_of("11:memory:/docker/abc", f"4:{controller}:/docker/abc", "1:name=systemd:/docker/abc")
    host.v1(f"{controller}/docker/abc", 250_000)

    assert host.quota() == 2.5


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_a_container_that_sees_only_its_own_group_of_cgroup_v1_finds_the_quota(host, mount):
    """The path in /proc/self/cgroup is the host's; inside of the container the group is the root of the mount."""
    host.member_of(f"4:{mount}:/docker/not/visible/here")
    host.v1(mount, 100_000, 50_000)

    assert host.quota() == 2.0


def test_no_quota_of_cgroup_v1_is_minus_one(host):
    """So the kernel says "unlimited"."""
    host.v1("cpu", -1)

    assert host.quota() is None


def test_the_strictest_of_nested_groups_counts(host):
    """The kernel enforces each group's quota; a Kubernetes pod's own may be wider than its parent's."""
    host.member_of("0::/kubepods/pod7/container3")
    host.v2("kubepods", "800000 100000")
    host.v2("kubepods/pod7", "150000 100000")
    host.v2("kubepods/pod7/container3", "400000 100000")
    host.v2("kubepods/pod8", "10000 100000")

    assert host.quota() == 1.5
    assert host.plan().threads == 2
    assert host.plan().why[0] == "2 inference threads: cgroup quota allows 1.5."


def test_a_quota_below_one_core_leaves_one_thread(host):
    """Half a core is one thread that often waits, not none."""
    host.v2("/", "20000 100000")

    assert host.plan().threads == 1


def test_affinity_limits(host, monkeypatch):
    """``taskset`` and cpusets are seen."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})

    assert host.plan().threads == 3
    assert "CPU affinity" in host.plan().why[0]


@pytest.mark.parametrize(("asked", "threads"), [(1, 1), (4, 4), (100, 16)])
def test_the_setting_limits_and_never_adds(host, asked, threads):
    """More threads than cores only switch."""
    assert host.plan(threads=asked).threads == threads


def test_a_system_without_affinity_counts_its_cores(host, monkeypatch):
    """macOS has no ``sched_getaffinity``, and some systems do not know their cores."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert host.plan().threads == 16

    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert host.plan().threads == 1


def test_a_system_without_a_list_of_groups_still_sees_the_root(host, monkeypatch):
    """A hardened container may hide /proc/self/cgroup."""
    monkeypatch.setattr(cpu, "OWN_GROUPS", host.root / "not there")
    host.v2("/", "300000 100000")

    assert host.quota() == 3.0


def test_decode_threads_and_jobs_follow_the_threads_or_the_settings(host):
    """Every decision says why in a sentence of its own."""
    small, large, asked = host.plan(threads=1), host.plan(), host.plan(decoders=3, jobs=5)

    assert (small.decoders, small.jobs) == (2, 12)
    assert (large.decoders, large.jobs) == (8, 84)
    assert (asked.decoders, asked.jobs) == (3, 5)
    assert asked.why[1:] == ("3 decode threads: FLEET_DECODERS.", "5 jobs at once: FLEET_JOBS.")
    assert len(large.why) == 3


def test_the_plan_of_this_very_process_is_sound():
    """Whatever machine this is."""
    plan = cpu.make_plan(Settings())

    assert 1 <= plan.threads <= (os.cpu_count() or 1)
    assert plan.decoders >= 2
    assert plan.jobs > plan.threads


def test_several_models_share_the_cores_and_each_has_a_thread_that_decodes(host):
    """Given three models, then there are two decode threads more than for one, and the plan says how they share."""
    one, three = host.plan(), host.plan(models=("a", "b", "c"))

    assert three.threads == one.threads
    assert three.decoders == one.decoders + 2
    assert three.why[-2].startswith("3 models share 16 threads: one that is busy alone uses all")
    assert not any("share" in sentence for sentence in one.why)
