from __future__ import annotations

import json
from pathlib import Path

import pytest

from learner.store.episode_store import EpisodeStore
from tests.delivery_site import STORE_BYTES
from tests.profiling import subjects
from tests.profiling.hot_functions import read_profile, table
from tests.profiling.recording import ProfilingError, explain, watched
from tests.profiling.subjects import profile_gateway

ROOT = Path(__file__).parents[2]
BUSY = """
import signal
ended = []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
def count_in_vain():
    while not ended:
        sum(range(1000))
count_in_vain()
"""


def speedscope(path: Path) -> Path:
    frames = [
        {"name": "run", "file": "/far/away/package/loop.py"},
        {"name": "work", "file": "/far/away/package/loop.py"},
        {"name": "Poller.poll", "file": "zmq/poll.py"},
    ]
    main = {"name": "main", "samples": [[0], [0], [0, 1], [0, 1]], "weights": [0.5] * 4}
    other = {"name": "other", "samples": [[0, 1], [0, 2]], "weights": [3.0, 3.0]}
    path.write_text(json.dumps({"shared": {"frames": frames}, "profiles": [main, other]}))
    return path


def test_a_profile_is_summed_up_by_thread_and_function(tmp_path: Path) -> None:
    busiest, main = read_profile(speedscope(tmp_path / "profile.json"))

    assert (busiest.name, busiest.busy_s) == ("other", 3.0)
    assert main.busy_s == 2.0
    assert [(one.name, one.own_s, one.whole_s) for one in main.functions] == [
        ("run", 1.0, 2.0),
        ("work", 1.0, 1.0),
    ]
    assert "away/package/loop.py" in table([busiest, main])
    assert "poll" not in table([busiest, main])


def test_the_start_of_the_main_thread_is_left_out(tmp_path: Path) -> None:
    _, main = read_profile(speedscope(tmp_path / "profile.json"), start_share=0.5)

    assert [(one.name, one.own_s) for one in main.functions] == [("work", 1.0)]


def test_where_the_kernel_forbids_it_what_to_do_is_said() -> None:
    said = explain("Error: Failed to get process\nReason: Operation not permitted (os error 1)")

    assert "ptrace_scope" in said
    assert "SYS_PTRACE" in said
    assert "ptrace" not in explain("ValueError: something else")


def test_the_function_that_a_process_is_busy_with_is_found(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    path = tmp_path / "profile.json"

    try:
        with watched([str(tmp_path / "busy.py")], path, ROOT) as process:
            while process.main_thread_seconds() < 0.5:
                process.check()
            process.stop()
    except ProfilingError as error:
        if "ptrace_scope" in str(error):
            pytest.skip(str(error))
        raise

    assert "count_in_vain" in {one.name for one in read_profile(path)[0].functions}


def test_a_gateway_is_profiled_under_the_load_of_real_agents_while_its_oldest_episodes_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subjects, "KEPT_BYTES", 2**20)
    path = tmp_path / "profile.json"

    try:
        seen = profile_gateway(path, tmp_path, seconds=1.0)
    except ProfilingError as error:
        if "ptrace_scope" in str(error):
            pytest.skip(str(error))
        raise

    assert sum(seen.thread_seconds.values()) > 0
    threads = " ".join(one.name for one in read_profile(path) if one.busy_s > 0)
    assert '"gateway"' in threads
    assert '"committer"' in threads
    store = EpisodeStore(tmp_path / "store", STORE_BYTES, readonly=True)
    assert any(store.retired_keys())
    store.close()
