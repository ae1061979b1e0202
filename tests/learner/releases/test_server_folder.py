"""The release server and its disk: what it keeps, and with what it starts again."""

from __future__ import annotations

import threading

import pytest

from learner.releases.folder import ReleaseFolder
from protocol.errors import RejectedReleaseError
from protocol.messages import ReleaseAnnouncement, ReleaseSubscription
from tests.learner.releases.served_fleet import Fleet, ask, receive
from tests.releases import OTHER_KEY, make_release
from tests.waiting import PATIENCE_S


def test_a_release_is_announced_although_the_disk_is_slow(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
):
    server = fleet.server()
    server.publish(make_release(1))
    robot = fleet.robot(server)
    ask(robot, ReleaseSubscription(have_version=1))
    heard = threading.Event()
    store = ReleaseFolder.store

    def store_once_heard(*arguments: object, **options: object) -> None:
        assert heard.wait(PATIENCE_S)
        store(*arguments, **options)

    monkeypatch.setattr(ReleaseFolder, "store", store_once_heard)
    publishing = threading.Thread(target=server.publish, args=[make_release(2)])
    publishing.start()
    assert receive(robot)[0].version == 2
    heard.set()
    publishing.join()
    assert fleet.files()[-1] == "release-0000000002.gfrel"


def test_a_folder_that_cannot_be_written_does_not_stop_a_release(fleet: Fleet):
    server = fleet.server()
    (fleet.folder / "releases").write_text("a file where the folder belongs")
    server.publish(make_release(1))
    announcement, _ = ask(fleet.robot(server), ReleaseSubscription(have_version=0))
    assert isinstance(announcement, ReleaseAnnouncement)


def test_only_the_newest_files_are_kept(fleet: Fleet):
    server = fleet.server(keep=2)
    for version in (1, 9, 10, 11):
        server.publish(make_release(version))
    assert fleet.files() == ["release-0000000010.gfrel", "release-0000000011.gfrel"]


def test_a_restarted_server_goes_on_with_the_newest_release(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    server.publish(make_release(2))
    server.close()

    again = fleet.server(endpoint=server.endpoint)

    assert again.current_version == 2
    announcement, _ = ask(fleet.robot(again), ReleaseSubscription(have_version=0))
    assert isinstance(announcement, ReleaseAnnouncement)
    assert announcement.version == 2


def test_a_damaged_file_is_passed_over_at_the_start(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(1))
    server.publish(make_release(2))
    server.close()
    newest = fleet.folder / "releases" / fleet.files()[-1]
    newest.write_bytes(newest.read_bytes()[:-100])

    assert fleet.server().current_version == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_release(6, key=OTHER_KEY), "not of the key"),
        (make_release(6)[:-1], "signature"),
        (make_release(4), "not newer"),
        (make_release(5, bias=0.9), "not newer"),
    ],
)
def test_what_robots_would_refuse_is_never_announced(fleet: Fleet, data: bytes, reason: str):
    server = fleet.server()
    server.publish(make_release(5))

    with pytest.raises(RejectedReleaseError, match=reason):
        server.publish(data)

    assert server.current_version == 5
    assert fleet.files() == ["release-0000000005.gfrel"]


def test_publishing_the_current_release_again_changes_nothing(fleet: Fleet):
    server = fleet.server()
    server.publish(make_release(5))
    server.publish(make_release(5))
    assert server.current_version == 5
