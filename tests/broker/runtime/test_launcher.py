import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gunicorn.config import Config
from support.servers import HANG, eventually, running_program

from broker.runtime.launcher import GUNICORN, endpoint_of, gunicorn_arguments, listen, listen_for_proxies
from broker.runtime.processes import ChildProcess, StartupError, spawn

pytestmark = pytest.mark.server

FEDGATE = [sys.executable, "-m", "broker.cli"]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("FEDGATE_")}


def descendants(pid):
    """Return the process ids below one, whatever their names are."""
    found, fresh = set(), {pid}
    while fresh:
        children = set()
        for parent in fresh:
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                children |= {int(text) for text in task.read_text().split()}
        fresh = children - found
        found |= fresh
    return found


def named(pids, word):
    return [pid for pid in pids if word in Path(f"/proc/{pid}/cmdline").read_text()]


def alive(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and state(pid) != "Z"]


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.fixture
def installation(tmp_path):
    subprocess.run([*FEDGATE, "init", "--data", tmp_path / "data"], check=True, capture_output=True, env=ENVIRON)
    return tmp_path / "data"


@pytest.fixture
def service(installation):
    """A running service: its launcher, its endpoint, and the file of its log."""
    environ = {**ENVIRON, "FEDGATE_BIND": "127.0.0.1:0", "FEDGATE_WORKERS": "2"}
    command = [*FEDGATE, "run", "--data", str(installation)]
    file = installation.parent / "service.log"
    with (
        file.open("wb") as log,
        running_program(command, stop=signal.SIGKILL, stderr=log, env=environ) as process,
    ):
        yield process, eventually(lambda: endpoint_in(file, process)), file


def endpoint_in(file, process):
    """Return the address that a service has said it serves, or nothing until then."""
    assert process.poll() is None, file.read_text()
    found = re.search(r"fedgate serves (\S+)\n", file.read_text())
    return found and found[1]


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=HANG) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_it_serves_on_a_free_port_and_sigterm_ends_all_of_it_with_status_0(service):
    process, endpoint, _ = service
    assert get(f"{endpoint}/healthz")[0] == 200
    assert json.loads(get(f"{endpoint}/readyz")[1])["status"] == "ready"
    children = descendants(process.pid)
    assert named(children, "redis-server")
    process.terminate()
    assert process.wait(HANG) == 0
    assert not alive(children)


def test_ctrl_c_reaches_the_launcher_alone_and_ends_with_status_0(service):
    process, _, _ = service
    children = descendants(process.pid)
    groups = {os.getpgid(pid) for pid in children}
    assert os.getpgid(process.pid) not in groups
    process.send_signal(signal.SIGINT)
    assert process.wait(HANG) == 0
    assert not alive(children)


def test_when_the_master_of_the_workers_dies_everything_ends_with_a_clear_word_and_status_1(service):
    process, _, log = service
    children = descendants(process.pid)
    os.kill(min(named(children, "gunicorn")), signal.SIGKILL)
    assert process.wait(HANG) == 1
    assert "Error: gunicorn ended by SIGKILL" in log.read_text()
    eventually(lambda: not alive(children))


def test_children_do_not_outlive_a_launcher_that_is_killed(service):
    process, _, _ = service
    children = descendants(process.pid)
    process.kill()
    process.wait()
    eventually(lambda: not alive(children))


def test_a_header_that_is_too_long_or_spelled_as_cgi_spells_it_goes_no_further(service):
    _, endpoint, _ = service
    host, port = endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=HANG) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 4")


def test_a_taken_port_is_told_with_a_remedy(installation):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environ = {**ENVIRON, "FEDGATE_BIND": f"127.0.0.1:{port}"}
        command = [*FEDGATE, "run", "--data", str(installation)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=HANG)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another" in done.stderr


def understood(name, value):
    config = Config()
    config.set(name, value)
    return config.settings[name].get()


def test_gunicorn_takes_every_option_that_we_name_and_means_the_same_by_it():
    parsed = vars(Config().parser().parse_args(gunicorn_arguments("x:y", fd=3, workers=2)[3:]))
    for name, value in GUNICORN.items():
        if value is None or value is False:
            assert parsed[name] is None
        else:
            assert understood(name, parsed[name]) == understood(name, value), name
    assert parsed["bind"] == ["fd://3"]


def test_nobody_is_trusted_to_say_where_a_request_came_from():
    config = Config()
    config.set("forwarded_allow_ips", GUNICORN["forwarded_allow_ips"])
    assert config.forwarded_allow_ips == []


def test_an_address_in_use_is_refused_and_a_free_one_named():
    with listen("127.0.0.1:0") as listening:
        endpoint = endpoint_of(listening)
        assert endpoint.startswith("http://127.0.0.1:")
        with pytest.raises(StartupError, match="Address already in use"):
            listen(endpoint.removeprefix("http://"))


def test_proxies_find_the_authorizer_at_an_address_or_a_path_or_nowhere(tmp_path):
    with listen_for_proxies("") as none, listen_for_proxies("127.0.0.1:0") as at_address:
        assert none == ()
        assert at_address[0].family is socket.AF_INET
        taken = endpoint_of(at_address[0]).removeprefix("http://")
        with pytest.raises(StartupError, match=r"Choose another address: authz\.bind"), listen_for_proxies(taken):
            pass
    path = tmp_path / "authz.sock"
    for _ in range(2):  # the file that the first one left is no hindrance
        with listen_for_proxies(f"unix:{path}") as (at_path,):
            assert at_path.getsockname() == str(path)
            assert path.stat().st_mode & 0o777 == 0o660


def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "authz.sock"
    path.write_text("mine")
    with pytest.raises(StartupError, match=r"Choose another path: authz\.bind"), listen_for_proxies(f"unix:{path}"):
        pass
    assert path.read_text() == "mine"


def test_the_sockets_for_proxies_come_behind_the_public_one():
    command = gunicorn_arguments("x:y", fd=3, workers=2, authz_fds=(7,))
    assert vars(Config().parser().parse_args(command[3:]))["bind"] == ["fd://3", "fd://7"]


def test_a_socket_on_all_addresses_is_reached_on_loopback():
    with listen("0.0.0.0:0") as listening:
        assert endpoint_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_child_that_ignores_sigterm_is_killed_when_its_patience_is_over():
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    )
    process = spawn([sys.executable, "-c", program], stdout=subprocess.PIPE)
    process.stdout.readline()
    child = ChildProcess("deaf", process, stop_timeout=0.1)
    child.stop()
    process.stdout.close()
    assert child.exit_message() == "deaf ended by SIGKILL"
