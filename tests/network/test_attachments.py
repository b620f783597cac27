"""Attachments between real daemons: kept, fetched once by hash, verified, limited, never half (C18)."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from p2pet.attachments.v1.attachments_pb2 import DownloadRequest, ListRequest, UploadRequest
from p2pet.attachments.v1.attachments_pb2_grpc import AttachmentServiceStub
from p2pet.client import ApiError, NodeClient
from p2pet.localnet import LocalNetwork

from p2petd.contracts.tariff import TariffTable
from p2petd.rpc.attachment_service import UPLOAD_PART_BYTES_MAX
from tests.support.community import Community, make_community
from tests.support.scripted import eventually

ATTACHMENT_BYTES_MAX = 3 * 1024 * 1024 + 5
DIRECTORY_BYTES_MAX = 64 * 1024 * 1024
HOLDER, SEEKER = "home-1", "home-2"


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Community]:
    """Two homes whose network permits attachments of 3 MiB; no notary runs."""
    directory = tmp_path_factory.mktemp("attachments") / "net"
    made = make_community(directory, homes=2, attachment_bytes_max=ATTACHMENT_BYTES_MAX)
    for name in (HOLDER, SEEKER):
        with (directory / name / "node.toml").open("a") as config:
            config.write(f"\n[attachments]\ndirectory_bytes_max = {DIRECTORY_BYTES_MAX}\n")
    with LocalNetwork(directory) as network:
        asyncio.run(network.start(HOLDER, SEEKER))
        yield Community(made, network)


def files(homes: Community, name: str) -> set[str]:
    return {path.name for path in _directory(homes, name).iterdir()}


def _directory(homes: Community, name: str) -> Path:
    return homes.network.node_directory(name) / "data" / "attachments"


async def downloaded(client: NodeClient, attachment: bytes) -> bytes:
    parts: list[bytes] = []
    assert await client.attachments.download(attachment, parts.append) == sum(map(len, parts))
    return b"".join(parts)


def test_c18_upload_and_download_round_trip(homes: Community) -> None:
    content = os.urandom(1_000_001)

    async def scenario() -> None:
        async with homes.client(HOLDER) as client:
            stored = await client.attachments.upload(content, name="readings.csv")
            assert stored.hash == sha256(content).digest()
            assert (stored.size_bytes, stored.name) == (len(content), "readings.csv")
            before = files(homes, HOLDER)
            again = await client.attachments.upload(content, name="another name")
            assert again == stored
            assert files(homes, HOLDER) == before
            assert await downloaded(client, stored.hash) == content
            listed = (await client.attachments.list()).attachments
            assert stored in listed

    asyncio.run(scenario())


def test_c18_fetched_once_by_hash_from_the_peer_that_holds_it(homes: Community) -> None:
    content = os.urandom(2_500_000)

    async def scenario() -> None:
        async with homes.client(HOLDER) as holder, homes.client(SEEKER) as seeker:
            stored = await holder.attachments.upload(content)
            fetches = [seeker.attachments.fetch(stored.hash, homes.identity[HOLDER]) for _ in range(5)]
            answers = await asyncio.gather(*fetches)
            assert {(one.hash, one.size_bytes, one.name) for one in answers} == {(stored.hash, len(content), "")}
            assert await downloaded(seeker, stored.hash) == content
            calls = (await holder.stats())["messages_received"]
            await seeker.attachments.fetch(stored.hash, homes.identity[HOLDER])
            assert (await holder.stats())["messages_received"] == calls
            # Five askers, one fetch: as many calls as the content has parts.
            assert calls <= -(-len(content) // (256 * 1024)) + 1

    asyncio.run(scenario())


def test_c18_what_a_peer_lacks_is_not_found(homes: Community) -> None:
    async def scenario() -> None:
        before = files(homes, SEEKER)
        async with homes.client(SEEKER) as seeker:
            for peer, code in (
                (homes.identity[HOLDER], "attachment.not_found"),
                (homes.identity[SEEKER], "attachment.not_found"),
                (b"\x01" * 32, "network.unknown_party"),
            ):
                with pytest.raises(ApiError) as refused:
                    await seeker.attachments.fetch(sha256(b"nobody has this").digest(), peer)
                assert refused.value.code == code
                assert "\n" not in refused.value.message
            with pytest.raises(ApiError) as refused:
                await downloaded(seeker, sha256(b"nobody has this").digest())
            assert refused.value.code == "attachment.not_found"
        assert files(homes, SEEKER) == before

    asyncio.run(scenario())


def test_c18_too_large_is_refused_and_the_largest_accepted(homes: Community) -> None:
    async def scenario() -> None:
        async with homes.client(HOLDER) as client:
            largest = await client.attachments.upload(os.urandom(ATTACHMENT_BYTES_MAX))
            assert largest.size_bytes == ATTACHMENT_BYTES_MAX
            before = files(homes, HOLDER)
            with pytest.raises(ApiError, match=str(ATTACHMENT_BYTES_MAX)) as refused:
                await client.attachments.upload(os.urandom(ATTACHMENT_BYTES_MAX + 1))
            assert refused.value.code == "attachment.too_large"
            assert files(homes, HOLDER) == before
        async with homes.client(SEEKER) as seeker:
            moved = await seeker.attachments.fetch(largest.hash, homes.identity[HOLDER])
            assert moved.size_bytes == ATTACHMENT_BYTES_MAX

    asyncio.run(scenario())


async def _parts(*parts: UploadRequest) -> AsyncIterator[UploadRequest]:
    for part in parts:
        yield part


MALFORMED: dict[str, tuple[UploadRequest, ...]] = {
    "nothing": (),
    "no content": (UploadRequest(name="empty", hash=sha256(b"").digest()),),
    "no hash at the end": (UploadRequest(name="cut short", content=b"a"),),
    "a hash of another length": (UploadRequest(content=b"a", hash=b"1"),),
    "content after the hash": (UploadRequest(hash=sha256(b"a").digest()), UploadRequest(content=b"a")),
    "a part that is too large": (UploadRequest(content=bytes(UPLOAD_PART_BYTES_MAX + 1)),),
    "a name in the middle": (UploadRequest(content=b"a"), UploadRequest(name="late", content=b"b")),
    "a name that forges lines": (UploadRequest(name="a\nb", content=b"a"),),
    "a name that is too long": (UploadRequest(name="n" * 256, content=b"a"),),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_c18_malformed_uploads_are_refused(homes: Community, case: str) -> None:
    async def scenario() -> None:
        before = files(homes, HOLDER)
        async with homes.client(HOLDER) as client:
            stub = AttachmentServiceStub(client.connection.channel)
            call = stub.Upload(_parts(*MALFORMED[case]), metadata=client.connection.metadata)
            with pytest.raises(ApiError) as refused:
                await client.connection.answer(call)
            assert refused.value.code == "request.malformed"
        assert files(homes, HOLDER) == before

    asyncio.run(scenario())


def test_c18_malformed_requests_are_refused(homes: Community) -> None:
    async def scenario() -> None:
        async with homes.client(HOLDER) as client:
            stub = AttachmentServiceStub(client.connection.channel)
            metadata = client.connection.metadata
            with pytest.raises(ApiError) as refused:
                async for _ in client.connection.answers(stub.Download(DownloadRequest(hash=b"1"), metadata=metadata)):
                    pass
            assert refused.value.code == "request.malformed"
            with pytest.raises(ApiError) as refused:
                await client.connection.answer(stub.List(ListRequest(page_token="?"), metadata=metadata))
            assert refused.value.code == "request.page"
            largest = await client.attachments.upload(bytes(UPLOAD_PART_BYTES_MAX))
            assert largest.size_bytes == UPLOAD_PART_BYTES_MAX

    asyncio.run(scenario())


def test_c18_lists_go_page_by_page(homes: Community) -> None:
    async def scenario() -> None:
        async with homes.client(HOLDER) as client:
            for number in range(5):
                await client.attachments.upload(b"page %d" % number)
            whole = [one.hash for one in (await client.attachments.list()).attachments]
            paged, token = [], ""
            while True:
                answer = await client.attachments.list(page_size=2, page_token=token)
                paged += [one.hash for one in answer.attachments]
                if not (token := answer.next_page_token):
                    break
            assert paged == whole == sorted(whole)

    asyncio.run(scenario())


def test_c18_a_full_directory_refuses_and_leaves_nothing(homes: Community) -> None:
    async def scenario() -> None:
        async with homes.client(SEEKER) as client:
            with pytest.raises(ApiError) as refused:
                await _fill(client)
            assert refused.value.code == "attachment.disk_full"
            assert refused.value.status == grpc.StatusCode.RESOURCE_EXHAUSTED.name
        assert not [name for name in files(homes, SEEKER) if name.startswith(".")]
        homes.network.stop(SEEKER)
        for file in _directory(homes, SEEKER).iterdir():
            file.unlink()
        await homes.network.start(SEEKER)

    asyncio.run(scenario())


async def _fill(client: NodeClient) -> None:
    for _ in range(DIRECTORY_BYTES_MAX // ATTACHMENT_BYTES_MAX + 1):
        await client.attachments.upload(os.urandom(ATTACHMENT_BYTES_MAX))


def test_c18_an_upload_with_another_hash_is_not_kept(homes: Community) -> None:
    async def scenario() -> None:
        before = files(homes, HOLDER)
        async with homes.client(HOLDER) as client:
            stub = AttachmentServiceStub(client.connection.channel)
            part = UploadRequest(content=b"sent", hash=sha256(b"meant").digest())
            with pytest.raises(ApiError) as refused:
                await client.connection.answer(stub.Upload(_parts(part), metadata=client.connection.metadata))
            assert refused.value.code == "attachment.hash_differs"
        assert files(homes, HOLDER) == before

    asyncio.run(scenario())


def test_c18_kill_9_during_an_upload_leaves_nothing_half(homes: Community) -> None:
    async def scenario() -> None:
        whole = files(homes, HOLDER)

        async def unfinished() -> AsyncIterator[UploadRequest]:
            yield UploadRequest(name="half", content=bytes(100_000))
            await asyncio.Event().wait()

        async with homes.client(HOLDER) as client:
            kept = [one.hash for one in (await client.attachments.list()).attachments]
            stub = AttachmentServiceStub(client.connection.channel)
            call = stub.Upload(unfinished(), metadata=client.connection.metadata)
            await eventually(lambda: _half_written(homes), 100_000)
            homes.network.kill(HOLDER)
            with pytest.raises(ApiError):
                await client.connection.answer(call)
        assert files(homes, HOLDER) != whole
        await homes.network.start(HOLDER)
        assert files(homes, HOLDER) == whole
        async with homes.client(HOLDER) as client:
            assert [one.hash for one in (await client.attachments.list()).attachments] == kept

    asyncio.run(scenario())


def test_c18_a_client_that_leaves_an_upload_leaves_nothing(homes: Community) -> None:
    async def scenario() -> None:
        whole = files(homes, HOLDER)

        async def unfinished() -> AsyncIterator[UploadRequest]:
            yield UploadRequest(content=bytes(100_000))
            await asyncio.Event().wait()

        async with homes.client(HOLDER) as client:
            stub = AttachmentServiceStub(client.connection.channel)
            call = stub.Upload(unfinished(), metadata=client.connection.metadata)
            await eventually(lambda: _half_written(homes), 100_000)
            call.cancel()

            async def remaining() -> set[str]:
                return files(homes, HOLDER)

            await eventually(remaining, whole)

    asyncio.run(scenario())


async def _half_written(homes: Community) -> int:
    """The size of what is being uploaded to the holder."""
    return sum(path.stat().st_size for path in _directory(homes, HOLDER).glob(".incoming-*"))


def test_c18_a_damaged_file_is_refused_by_name_and_not_served_to_peers(homes: Community) -> None:
    content = os.urandom(300_000)

    async def scenario() -> None:
        peer = homes.identity[HOLDER]
        async with homes.client(HOLDER) as holder, homes.client(SEEKER) as seeker:
            stored = await holder.attachments.upload(content)
            path = _directory(homes, HOLDER) / stored.hash.hex()
            path.write_bytes(content[:-1] + b"\x00\x01")
            with pytest.raises(ApiError, match=path.name) as refused:
                await downloaded(holder, stored.hash)
            assert refused.value.code == "attachment.damaged"
            with pytest.raises(ApiError) as refused:
                await seeker.attachments.fetch(stored.hash, peer)
            assert refused.value.code == "attachment.not_found"
            assert stored.hash.hex() not in files(homes, SEEKER)
            await holder.attachments.upload(content)
            await seeker.attachments.fetch(stored.hash, peer)
            assert await downloaded(seeker, stored.hash) == content

    asyncio.run(scenario())


def test_c18_a_fetch_goes_on_when_the_peer_comes_back(homes: Community) -> None:
    content = os.urandom(2_000_000)

    async def scenario() -> None:
        async with homes.client(HOLDER) as holder:
            stored = await holder.attachments.upload(content)
        homes.network.kill(HOLDER)
        async with homes.client(SEEKER) as seeker:
            fetching = asyncio.create_task(seeker.attachments.fetch(stored.hash, homes.identity[HOLDER]))
            await homes.network.start(HOLDER)
            assert (await fetching).size_bytes == len(content)
            assert await downloaded(seeker, stored.hash) == content

    asyncio.run(scenario())


def cli(homes: Community, name: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-m", "p2pet.cli.main", "--node", str(homes.network.node_directory(name)), *words]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def test_c18_the_command_line_uploads_fetches_lists_and_downloads(homes: Community, tmp_path: Path) -> None:
    content = os.urandom(600_000)
    file, copy = tmp_path / "readings.bin", tmp_path / "copy.bin"
    file.write_bytes(content)
    attachment = sha256(content).hexdigest()
    assert cli(homes, HOLDER, "attachment", "upload", str(file)).stdout.decode().strip() == attachment
    assert b"readings.bin" in cli(homes, HOLDER, "attachment", "list").stdout
    absent = cli(homes, SEEKER, "attachment", "download", attachment, "-o", str(copy))
    assert absent.returncode == 1
    assert absent.stderr.decode().endswith("[attachment.not_found]\n")
    assert list(tmp_path.iterdir()) == [file]
    fetched = cli(homes, SEEKER, "attachment", "fetch", attachment, "--from", HOLDER, "--json")
    assert attachment.encode() in fetched.stdout, fetched.stderr
    assert cli(homes, SEEKER, "attachment", "download", attachment, "-o", str(copy)).returncode == 0
    assert copy.read_bytes() == content
    assert cli(homes, SEEKER, "attachment", "download", attachment).stdout == content
    assert cli(homes, SEEKER, "attachment", "download", "abc").returncode == 2


def test_c18_a_tariff_from_a_csv_is_an_attachment_like_any_other(homes: Community, tmp_path: Path) -> None:
    file = tmp_path / "tariff.csv"
    file.write_text("energy_type,zone,price_min,price_max,long_price,short_price\nsolar,,0.08,0.31,0.05,0.40\n")
    validity = ("--from", "2026-07-01T00:00Z", "--until", "2026-08-01T00:00Z")
    words = ("attachment", "tariff", str(file), "--name", "summer", "--currency", "EUR", *validity)
    made = cli(homes, HOLDER, *words)
    assert made.returncode == 0, made.stderr
    attachment = made.stdout.decode().strip()
    # The same rows and words always make the same attachment.
    assert cli(homes, HOLDER, *words).stdout.decode().strip() == attachment
    table = TariffTable.decode(cli(homes, HOLDER, "attachment", "download", attachment).stdout)
    assert (table.name, table.currency, len(table.rows)) == ("summer", "EUR", 1)
