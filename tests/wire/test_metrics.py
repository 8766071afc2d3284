import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from wire.server import RunningServer, StartServer, setting, until


def port_of(server: RunningServer) -> int:
    found = re.search(r'"port": (\d+), "event": "metrics-listening"', server.log.read_text())
    assert found is not None, server.log.read_text()
    return int(found[1])


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_the_metrics_count_what_happened(serve: StartServer) -> None:
    server = serve(before=setting('metrics = "127.0.0.1:0"'))
    port = port_of(server)
    server.add_file("big", 3_000_000)
    assert scrape(port)["ssps_connections"] == 0

    with socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.3", 0)) as s:
        s.settimeout(5)
        with suppress(ConnectionResetError):
            assert s.recv(1) == b""
    assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 255
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        with sftp.open("big") as file:  # without prefetch, which can read a part twice
            assert len(file.read()) == 3_000_000
        until(lambda: scrape(port).get('ssps_sent_bytes_total{party="parti-a"}') == 3_000_000)
        during = scrape(port)
    assert during['ssps_sessions{party="parti-a"}'] == 1
    assert during["ssps_connections"] == 1
    until(lambda: scrape(port)["ssps_connections"] == 0)

    after = scrape(port)
    assert after['ssps_logins_total{party="parti-a"}'] == 1
    assert after['ssps_files_total{party="parti-a"}'] == 1
    assert after['ssps_refusals_total{event="connection-refused",reason="address"}'] == 1
    assert after['ssps_refusals_total{event="login-refused",reason="wrong credential"}'] == 1
    assert after["ssps_forks_total"] == 2
    assert after["ssps_read_seconds_count"] >= 12
    assert 0 < after["ssps_read_seconds_sum"] < 10
    assert 'ssps_sessions{party="parti-a"}' not in after
    until(lambda: scrape(port)["ssps_ledger_unsynced_records"] == 0)


def test_idle_clients_of_the_metrics_port_do_not_block_the_server(serve: StartServer) -> None:
    server = serve(before=setting('metrics = "127.0.0.1:0"'))
    port = port_of(server)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for sock in silent:
        sock.send(b"GET /metrics HT")
    assert scrape(port)["ssps_connections"] == 0
    assert server.sftp("parti-a", "ls\n").returncode == 0
    for path, status in (("/", 404), ("/metrics/../../etc/passwd", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
        refused.value.close()
        assert refused.value.code == status
    for sock in silent:
        sock.close()


def test_a_metrics_port_that_is_not_on_loopback_is_logged(serve: StartServer) -> None:
    server = serve(before=setting('metrics = "0.0.0.0:0"'))
    assert "metrics-exposed" in server.log.read_text()


def test_the_server_runs_without_metrics_if_their_port_is_taken(serve: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(before=setting(f'metrics = "127.0.0.1:{port}"'))
        assert server.sftp("parti-a", "ls\n").returncode == 0
    assert "metrics-unavailable" in server.log.read_text()
