import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from wire.served import Serve, Served, setting, until
from wire.test_server import add_file, connected


def port_of(served: Served) -> int:
    found = re.search(r'"port": (\d+), "event": "metrics-listening"', served.log.read_text())
    assert found is not None, served.log.read_text()
    return int(found[1])


def scraped(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_the_numbers_of_a_night(serve: Serve) -> None:
    served = serve(before=setting('metrics = "127.0.0.1:0"'))
    port = port_of(served)
    add_file(served, "big", 3_000_000)
    assert scraped(port)["ssps_connections"] == 0

    with socket.create_connection(("127.0.0.1", served.port), source_address=("127.0.0.3", 0)) as s:
        s.settimeout(5)
        with suppress(ConnectionResetError):
            assert s.recv(1) == b""
    assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 255
    with connected(served, "parti-a") as client, client.open_sftp() as sftp:
        with sftp.open("big") as file:  # not prefetched, which may ask for some of it twice
            assert len(file.read()) == 3_000_000
        until(lambda: scraped(port).get('ssps_sent_bytes_total{party="parti-a"}') == 3_000_000)
        during = scraped(port)
    assert during['ssps_sessions{party="parti-a"}'] == 1
    assert during["ssps_connections"] == 1
    until(lambda: scraped(port)["ssps_connections"] == 0)

    told = scraped(port)
    assert told['ssps_logins_total{party="parti-a"}'] == 1
    assert told['ssps_files_total{party="parti-a"}'] == 1
    assert told['ssps_refusals_total{event="connection-refused",reason="address"}'] == 1
    assert told['ssps_refusals_total{event="login-refused",reason="wrong credential"}'] == 1
    assert told["ssps_forks_total"] == 2
    assert told["ssps_read_seconds_count"] >= 12
    assert 0 < told["ssps_read_seconds_sum"] < 10
    assert 'ssps_sessions{party="parti-a"}' not in told
    until(lambda: scraped(port)["ssps_ledger_unsynced_records"] == 0)


def test_who_sits_on_the_port_does_not_hold_up_the_server(serve: Serve) -> None:
    served = serve(before=setting('metrics = "127.0.0.1:0"'))
    port = port_of(served)
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for sock in silent:
        sock.send(b"GET /metrics HT")
    assert scraped(port)["ssps_connections"] == 0
    assert served.sftp("parti-a", "ls\n").returncode == 0
    for path, status in (("/", 404), ("/metrics/../../etc/passwd", 404)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
        refused.value.close()
        assert refused.value.code == status
    for sock in silent:
        sock.close()


def test_a_port_open_to_strangers_is_warned_of(serve: Serve) -> None:
    served = serve(before=setting('metrics = "0.0.0.0:0"'))
    assert "metrics-exposed" in served.log.read_text()


def test_a_port_that_is_taken_keeps_nobody_from_mirroring(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = serve(before=setting(f'metrics = "127.0.0.1:{port}"'))
        assert served.sftp("parti-a", "ls\n").returncode == 0
    assert "metrics-unavailable" in served.log.read_text()
