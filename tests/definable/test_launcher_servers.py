"""The embedded PostgreSQL and Valkey: real ones, started here."""

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from definable.launcher import binaries, local
from definable.launcher.account import Account, private_folder
from definable.launcher.errors import CannotStart
from definable.launcher.postgres import Postgres
from definable.launcher.process import birth
from definable.launcher.valkey import Valkey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A database with one table, in a path with spaces that is too long for a socket."""
    state = tmp_path_factory.mktemp("a state folder, and a long one " + "x" * 100)
    server = Postgres(state, fast=True)
    server.start()
    server.ensure_database()
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE note (text text)")
    yield server
    server.destroy()


def write(server: Postgres, text: str) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("INSERT INTO note VALUES (%s)", [text])


def notes(server: Postgres) -> list[str]:
    with psycopg.connect(server.url()) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM note ORDER BY text")]


def test_data_is_there_after_a_stop(server):
    write(server, "a stop")
    server.stop()
    assert not server.running()

    server.start()

    assert "a stop" in notes(server)


def test_data_is_there_after_a_kill(server):
    write(server, "a kill")
    os.kill(server.process.pid, signal.SIGKILL)
    while server.alive():
        pass

    server.start()

    assert "a kill" in notes(server)


def test_a_pid_file_that_names_a_stranger_does_not_stop_a_start(server):
    server.stop()
    stale = server.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{server.data}\n0\n5432\n{server.sockets}\n\n 0 0\nready   \n")

    assert not server.running()
    server.start()

    assert server.running()


def test_a_second_start_takes_over_the_running_server(server):
    second = Postgres(server.state, fast=True)
    second.start()

    assert second.process.pid == server.process.pid
    assert second.alive()


def test_stopping_works_on_a_server_that_somebody_else_started(server):
    second = Postgres(server.state, fast=True)
    second.start()
    second.stop()

    assert not server.alive()
    server.start()


def test_it_listens_on_its_socket_only(server):
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_only_its_account_may_enter_its_folders(server):
    for folder in (server.folder, server.data, server.sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_does_not_run_as_root(server):
    assert Path(f"/proc/{server.process.pid}").stat().st_uid == server.data.stat().st_uid != 0


def test_an_over_long_path_gets_a_short_socket(server):
    assert not server.sockets.is_relative_to(server.state)
    assert len(str(server.sockets / ".s.PGSQL.5432")) <= local.SOCKET_LIMIT


def test_data_of_another_release_is_told_in_one_line(server):
    server.stop()
    version = server.data / "PG_VERSION"
    ours = version.read_text()
    version.write_text("13\n")

    with pytest.raises(CannotStart, match=r"made by PostgreSQL 13, .*set DEFINABLE_PG_BIN") as told:
        server.start()

    version.write_text(ours)
    server.start()
    assert "\n" not in str(told.value)


def test_a_deleted_state_folder_does_not_meet_the_old_data(tmp_path):
    first = Postgres(tmp_path / "state", fast=True)
    first.start()
    first.ensure_database("old")
    first.stop()
    shutil.rmtree(tmp_path / "state")

    second = Postgres(tmp_path / "state", fast=True)
    second.start()
    with psycopg.connect(second.url("postgres")) as connection:
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    second.destroy()

    assert "old" not in names


def test_an_interrupted_first_start_is_begun_again(tmp_path):
    server = Postgres(tmp_path, fast=True)
    server.start()
    server.stop()
    server.data.rename(server.data.with_name("data.new"))
    (server.data.with_name("data.new") / "PG_VERSION").unlink()

    server.start()

    assert server.running()
    server.destroy()


def test_a_folder_of_somebody_else_is_not_used_for_sockets(tmp_path):
    (tmp_path / "trap").symlink_to(tmp_path)

    with pytest.raises(CannotStart, match="belongs to somebody else"):
        private_folder(tmp_path / "trap", Account())


def test_a_wrong_folder_of_programs_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("DEFINABLE_PG_BIN", str(tmp_path))

    with pytest.raises(CannotStart, match="there is no initdb in it"):
        binaries.postgres_bin()


def test_servers_of_the_machine_come_first_when_preferred(tmp_path, monkeypatch):
    for program in ("initdb", "valkey-server"):
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path / "none")
    monkeypatch.delenv("DEFINABLE_PG_BIN", raising=False)
    monkeypatch.delenv("PREFER_SYSTEM", raising=False)

    assert tmp_path not in {binaries.postgres_bin(), binaries.valkey_server().parent}
    monkeypatch.setenv("PREFER_SYSTEM", "1")
    assert {binaries.postgres_bin(), binaries.valkey_server().parent} == {tmp_path}


def test_the_newest_postgresql_of_the_machine_is_taken(tmp_path, monkeypatch):
    for release in ("9.6", "15", "17"):
        (tmp_path / release / "bin").mkdir(parents=True)
        (tmp_path / release / "bin" / "initdb").touch()
    monkeypatch.setattr(binaries, "DEBIAN", tmp_path)
    monkeypatch.delenv("DEFINABLE_PG_BIN", raising=False)
    monkeypatch.setenv("PREFER_SYSTEM", "1")

    assert binaries.postgres_bin() == tmp_path / "17" / "bin"


def test_valkey_keeps_its_queue_over_a_kill(tmp_path):
    valkey = Valkey(tmp_path)
    valkey.start()
    redis.Redis.from_url(valkey.stream_url()).rpush("queue", "hint")
    os.kill(valkey.process.pid, signal.SIGKILL)
    while valkey.alive():
        pass

    valkey.start()
    kept = redis.Redis.from_url(valkey.stream_url()).lrange("queue", 0, -1)
    valkey.stop()

    assert kept == [b"hint"]
    assert not valkey.running()


def test_a_second_start_takes_over_the_running_valkey(tmp_path):
    first, second = Valkey(tmp_path), Valkey(tmp_path)
    first.start()
    second.start()

    assert second.process.pid == first.process.pid
    second.stop()
    assert birth(first.process.pid) is None or not first.alive()


def test_only_its_owner_may_reach_the_valkey_socket(tmp_path):
    valkey = Valkey(tmp_path)
    valkey.start()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (valkey.folder, valkey.socket.parent, valkey.socket)]
    valkey.stop()

    assert modes == [0o700, 0o700, 0o700]
