"""Laws of one file's way from the Hub to the disk: whole and right, or not there; on from where it stopped."""

from __future__ import annotations

import hashlib
import os
import random
import time
from pathlib import Path
from threading import Thread

import pytest

from localspec.errors import HubError
from localspec.models.fetch import fetch, missing_bytes
from localspec.models.hub.remote import Hub, Listing, RemoteFile, RetryPolicy
from localspec.models.store import StoredFile
from tests.helpers.hub_fixtures import Clock, Told
from tests.helpers.hub_server import Fault, HubServer

REPO, NAME = "user/repo", "model-Q4_0.gguf"
CONTENT = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _one_file(server: HubServer) -> None:
    server.add(REPO, NAME, CONTENT)


def fetched(hub: Hub, cache: Path, told: Told, name: str = NAME) -> StoredFile:
    listing = hub.listing(REPO)
    (file,) = (file for file in listing.files if file.path == name)
    return fetch(hub, listing, file, cache, told)


def partial(cache: Path) -> Path:
    return cache / "models--user--repo" / "blobs" / f"{SHA}.incomplete"


def nothing_to_see(cache: Path) -> bool:
    """No name leads to a file, and no blob is whole."""
    root = cache / "models--user--repo"
    blobs = [path for path in root.glob("blobs/*") if path.suffix != ".incomplete"]
    return not blobs and not list(root.glob("snapshots/*/*"))


def test_file_arrives_under_its_name(hub: Hub, cache: Path, told: Told) -> None:
    """In huggingface_hub's place, which it finds offline as well."""
    from huggingface_hub import hf_hub_download, scan_cache_dir

    file = fetched(hub, cache, told)
    assert file.path.read_bytes() == CONTENT
    assert (file.size, file.sha256, file.ours) == (len(CONTENT), SHA, True)
    assert told.begun == [(NAME, len(CONTENT), 0)]
    assert (told.done[-1], told.ended) == (len(CONTENT), [True])
    assert hf_hub_download(REPO, NAME, cache_dir=cache, local_files_only=True) == str(file.path)
    assert not scan_cache_dir(cache).warnings


def test_small_file_without_lfs_is_checked_by_gits_hash(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """Its redirect stays on the Hub."""
    blob = server.add(REPO, "config.json", b'{"a": 1}', lfs=False)
    file = fetched(hub, cache, told, "config.json")
    assert file.path.read_bytes() == blob.content
    assert file.sha256 == blob.oid
    server.add(REPO, "config.json", b'{"a": 2}', lfs=False)
    server.script("small", "config.json", Fault(content=b'{"a": 3}'))
    with pytest.raises(HubError, match=r"config\.json is not what was promised"):
        fetched(hub, cache, told, "config.json")


def test_file_that_is_there_is_not_fetched_again(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """It is checked again, though, and another program's copy is as good."""
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(REPO, NAME, cache_dir=cache, endpoint=server.endpoint)
    before = len(server.seen("cdn"))
    file = fetched(hub, cache, told)
    assert str(file.path) == path
    assert len(server.seen("cdn")) == before
    assert told.ended == [False]
    assert not file.ours


def test_damaged_copy_in_the_cache_is_replaced(hub: Hub, cache: Path, told: Told) -> None:
    """Of the right size, and with another hash."""
    path = fetched(hub, cache, told).path
    os.chmod(path, 0o644)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT
    assert any("damaged" in note for note in told.notes)


def test_token_goes_to_the_hub_and_not_to_the_storage(
    hub: Hub, cache: Path, told: Told, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The redirect leads to another host."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched(hub, cache, told)
    assert {request.token for request in server.seen("resolve") + server.seen("listing")} == {"hf_secret"}
    assert {request.token for request in server.seen("cdn")} == {None}


def test_nothing_is_asked_for_but_the_listing_and_the_file(
    hub: Hub, cache: Path, told: Told, server: HubServer
) -> None:
    """No telemetry; the user agent names versions and nothing of the machine."""
    fetched(hub, cache, told)
    assert [request.where for request in server.requests] == ["listing", "resolve", "cdn"]
    for request in server.requests:
        assert [part.strip().partition("/")[0] for part in request.agent.split(";")] == [
            "localspec",
            "hf_hub",
            "python",
        ]


def test_file_that_plain_http_does_not_give_names_the_command(
    hub: Hub, cache: Path, told: Told, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that ``hf download`` then fetches is found, checked and used."""
    from huggingface_hub import hf_hub_download

    monkeypatch.setattr("localspec.models.fetch._MAX_SIZE", 1000)
    with pytest.raises(HubError, match=rf"through Xet only: run `hf download {REPO} {NAME}`"):
        fetched(hub, cache, told)
    hf_hub_download(REPO, NAME, cache_dir=cache, endpoint=server.endpoint)
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


# Interrupted.


def test_interrupted_fetch_goes_on_where_it_stopped(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """Ctrl-C in the middle; nothing can be seen of the file until it is whole."""
    listing = hub.listing(REPO)

    class Interrupts(Told):
        def received(self, done: int) -> None:
            if done > 100_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub, listing, listing.files[0], cache, Interrupts())
    have = partial(cache).stat().st_size
    assert 100_000 < have < len(CONTENT)
    assert partial(cache).read_bytes() == CONTENT[:have]
    assert nothing_to_see(cache)
    assert missing_bytes(listing, listing.files[0], cache) == len(CONTENT) - have
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT
    assert server.seen("cdn")[-1].range == f"bytes={have}-"
    assert told.begun == [(NAME, len(CONTENT), have)]
    assert missing_bytes(listing, listing.files[0], cache) == 0


@pytest.mark.parametrize("left", [0, 1, len(CONTENT) - 1, len(CONTENT)])
def test_whatever_was_left_the_file_is_right(hub: Hub, cache: Path, told: Told, left: int) -> None:
    """Nothing, a byte, all but one, all."""
    partial(cache).parent.mkdir(parents=True)
    partial(cache).write_bytes(CONTENT[:left])
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"?" * 1000, b"?" * len(CONTENT), b"?" * (len(CONTENT) + 5)])
def test_damaged_rest_of_an_earlier_pull_is_fetched_anew(hub: Hub, cache: Path, told: Told, left: bytes) -> None:
    """For example after a power cut."""
    partial(cache).parent.mkdir(parents=True)
    partial(cache).write_bytes(left)
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


def test_server_that_cannot_begin_in_the_middle_begins_anew(
    hub: Hub, cache: Path, told: Told, server: HubServer
) -> None:
    """It answers 200 to a request for a range."""
    partial(cache).parent.mkdir(parents=True)
    partial(cache).write_bytes(CONTENT[:1000])
    server.script("cdn", NAME, Fault(ignores_range=True))
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


def test_two_at_once_fetch_it_once(hub: Hub, cache: Path, server: HubServer) -> None:
    """The second waits for the first, with a notice."""
    server.rate = 400_000
    both = [Told(), Told()]
    results: list[StoredFile] = []
    threads = [Thread(target=lambda told=told: results.append(fetched(hub, cache, told))) for told in both]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert [file.path.read_bytes() == CONTENT for file in results] == [True, True]
    assert len(server.seen("cdn")) == 1
    assert any("another program is fetching" in note for told in both for note in told.notes)


def test_file_without_links_is_the_file_itself(
    hub: Hub, cache: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On systems where links are not allowed; it is known again."""
    monkeypatch.setenv("HF_HUB_DISABLE_SYMLINKS", "1")
    file = fetched(hub, cache, told)
    assert not file.path.is_symlink()
    assert file.path.read_bytes() == CONTENT
    assert fetched(hub, cache, told).path == file.path
    assert told.ended == [True, False]


# Trouble that passes.


@pytest.mark.parametrize("where", ["listing", "resolve", "cdn"])
@pytest.mark.parametrize("fault", [Fault(status=s) for s in (408, 429, 500, 502, 503, 504)] + [Fault(cut_after=0)])
def test_passing_trouble_is_waited_out(
    hub: Hub, cache: Path, told: Told, clock: Clock, server: HubServer, where: str, fault: Fault
) -> None:
    """Each wait is longer than the last and has a notice with the reason."""
    server.script(where, REPO if where == "listing" else NAME, fault, fault)
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT
    assert clock.waits == [1.0, 2.0]
    assert len(told.notes) == 2
    assert all("trying again in" in note for note in told.notes)


def test_cuts_with_progress_do_not_count(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """A bad line that gives a little each time gives the file in the end, and no byte twice."""
    server.script("cdn", NAME, *[Fault(cut_after=20_000)] * 8)
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT
    starts = [request.range for request in server.seen("cdn")]
    assert starts == [None, *(f"bytes={20_000 * i}-" for i in range(1, 9))]


def test_restarts_without_new_bytes_count(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """A server that always begins anew and never ends is given up."""
    server.always("cdn", NAME, Fault(cut_after=20_000, ignores_range=True))
    with pytest.raises(HubError, match="3 times in a row"):
        fetched(hub, cache, told)


def test_address_that_expired_is_asked_for_again(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """The storage answers 403 to an old signature; the Hub gives a new one."""
    server.script("cdn", NAME, Fault(status=403))
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT
    assert len(server.seen("resolve")) == 2


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=3;t=55'}, 1.0),
        ({"Retry-After": "soon"}, 1.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_wait_that_is_asked_for_is_kept(
    hub: Hub, cache: Path, told: Told, clock: Clock, server: HubServer, headers: dict[str, str], wait: float
) -> None:
    """In both forms of the Hub's header."""
    server.script("resolve", NAME, Fault(status=429, headers=headers))
    fetched(hub, cache, told)
    assert clock.waits == [wait]


def test_too_long_a_wait_is_one_sentence(hub: Hub, cache: Path, told: Told, clock: Clock, server: HubServer) -> None:
    """At once."""
    server.script("resolve", NAME, Fault(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(HubError, match=r"asks to wait 3600 s.*too many requests.*goes on where it stopped"):
        fetched(hub, cache, told)
    assert clock.waits == []


def test_slow_server_is_given_up_after_the_time_limit(server: HubServer, cache: Path, told: Told) -> None:
    """Not a byte for so long."""
    hub = Hub(retry=RetryPolicy(attempts=2, timeout_s=0.2, sleep=lambda _: None))
    server.always("cdn", NAME, Fault(delay_s=1.0))
    with pytest.raises(HubError, match=r"nothing came within the time limit, 2 times in a row"):
        fetched(hub, cache, told)


# Trouble that stays: one sentence with the next step, and nothing half done to be seen.


@pytest.mark.parametrize("where", ["listing", "resolve", "cdn"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault(status=503), "it answers 503"), (Fault(cut_after=0), "the connection was cut"), (Fault(status=429), "429")],
)
def test_lasting_trouble_ends_in_one_sentence(
    hub: Hub, cache: Path, told: Told, server: HubServer, where: str, fault: Fault, reason: str
) -> None:
    """With what to do."""
    server.always(where, REPO if where == "listing" else NAME, fault)
    with pytest.raises(HubError, match=rf"{reason}.*3 times in a row; check the network or wait, then run the same"):
        fetched(hub, cache, told)
    assert nothing_to_see(cache)


def test_no_network_is_one_sentence(cache: Path, told: Told) -> None:
    """With the address."""
    hub = Hub("http://127.0.0.1:9", retry=RetryPolicy(attempts=2, sleep=lambda _: None))
    with pytest.raises(HubError, match=r"127\.0\.0\.1:9.*check the network"):
        hub.listing(REPO)


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", b"?" * len(CONTENT)])
def test_wrong_content_is_removed(hub: Hub, cache: Path, told: Told, server: HubServer, content: bytes) -> None:
    """Content of the right length, too; the same command then fetches the right one."""
    server.script("cdn", NAME, Fault(content=content))
    with pytest.raises(HubError, match=rf"{NAME} is not what was promised: its hash is .* removed; run the same"):
        fetched(hub, cache, told)
    assert nothing_to_see(cache)
    assert not partial(cache).exists()
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:1000], CONTENT + b"more"])
@pytest.mark.parametrize("left", [0, 5000])
def test_content_of_another_length_is_removed(
    hub: Hub, cache: Path, told: Told, server: HubServer, content: bytes, left: int
) -> None:
    """Fresh or gone on with."""
    if left:
        partial(cache).parent.mkdir(parents=True)
        partial(cache).write_bytes(CONTENT[:left])
    server.always("cdn", NAME, Fault(content=content))
    with pytest.raises(HubError, match="is not what was promised: it has"):
        fetched(hub, cache, told)
    assert nothing_to_see(cache)
    assert not partial(cache).exists()


@pytest.mark.parametrize(
    ("token", "step"), [(None, "log in with `hf auth login`"), ("hf_known", "make sure that `hf auth whoami` is you")]
)
def test_licence_to_accept_names_the_page(
    hub: Hub, cache: Path, told: Told, server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str | None, step: str
) -> None:
    """401 for strangers, 403 for those who have not accepted; who has gets the file."""
    server.repositories[REPO].gated = True
    server.tokens, server.accepted = {"hf_known", "hf_accepted"}, {"hf_accepted"}
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError) as caught:
        fetched(hub, cache, told)
    assert f"accept it at {server.endpoint}/{REPO}" in str(caught.value)
    assert step in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_accepted")
    assert fetched(hub, cache, told).path.read_bytes() == CONTENT


@pytest.mark.parametrize("token", [None, "hf_known"])
def test_repository_that_is_not_there_is_named(
    hub: Hub, server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    """The Hub answers 401 to strangers and 404 to others; it may be private."""
    server.tokens = {"hf_known"}
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=r"no model user/none that you may see; check the name, or log in"):
        hub.listing("user/none")


def test_wrong_token_is_named(hub: Hub, server: HubServer) -> None:
    """From the Hub's answer."""
    message = {"X-Error-Message": "Invalid credentials in Authorization header"}
    server.script("listing", REPO, Fault(status=401, headers=message))
    with pytest.raises(HubError, match=r"does not accept your token; log in again with `hf auth login`"):
        hub.listing(REPO)


def test_file_that_went_meanwhile_is_named(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """Between the listing and the file."""
    listing = hub.listing(REPO)
    del server.repositories[REPO].files[NAME]
    with pytest.raises(HubError, match=rf"{REPO}/{NAME} is not on the Hub"):
        fetch(hub, listing, listing.files[0], cache, told)


def test_renamed_repository_is_followed(hub: Hub, server: HubServer) -> None:
    """Under its new name."""
    server.renamed["user/old"] = REPO
    assert hub.listing("user/old").repo == REPO


@pytest.mark.parametrize("fault", [Fault(status=200), Fault(status=418), Fault(status=400)])
def test_odd_answer_is_one_sentence(hub: Hub, server: HubServer, fault: Fault) -> None:
    """A proxy's page, for example."""
    server.script("listing", REPO, fault)
    with pytest.raises(HubError, match=r"check HF_ENDPOINT|refused"):
        hub.listing(REPO)


@pytest.mark.parametrize("path", ["../x.gguf", "/x.gguf", "a//b.gguf", "a\\b.gguf", "a/../../x.gguf", "C:x.gguf"])
def test_name_that_leads_out_of_the_cache_is_refused(hub: Hub, cache: Path, told: Told, path: str) -> None:
    """No request is sent."""
    file = RemoteFile(path, 3, SHA, "0" * 40)
    with pytest.raises(HubError, match="is not a name that can be kept"):
        fetch(hub, Listing(REPO, "0" * 40, (file,)), file, cache, told)


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline_no_hub_is_opened(monkeypatch: pytest.MonkeyPatch, cache: Path, server: HubServer, value: str) -> None:
    """One sentence."""
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(HubError, match="offline"):
        Hub()
    assert server.requests == []
