"""One process leads, by a row in PostgreSQL, and a former leader commits nothing."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import postgres
import pytest
import sqlalchemy as sa
from running_site import until

from config.site import FILING
from publisher import migrations
from publisher.catalog.catalog import Catalog
from publisher.database import UNAVAILABLE, Unreachable
from publisher.election import leader as leader_module
from publisher.election.leader import SCHEMA, Candidate, Leader
from publisher.election.lease import Deposed

pytestmark = pytest.mark.slow


@dataclass
class Hosts:
    """Candidates on several hosts; the leaders that they became are closed at the end."""

    url: sa.URL
    leaders: list[Leader] = field(default_factory=list)

    def try_to_lead(self, host: str, *, sole: bool = True) -> Leader | None:
        url = postgres.in_schema(self.url, SCHEMA)
        if (leader := Candidate(url, FILING, host, sole=sole).try_to_lead()) is not None:
            self.leaders.append(leader)
        return leader

    def elect(self, host: str) -> Leader:
        leader = self.try_to_lead(host)
        assert leader is not None
        return leader

    def catalog(self, leader: Leader) -> Catalog:
        catalog = Catalog(leader.url(postgres.in_schema(self.url, "catalog")))
        catalog.before_commit = leader.check_row
        return catalog

    def freeze(self) -> None:
        """Let no leader renew its lease any more."""
        for leader in self.leaders:
            leader._closing.set()
            leader._thread.join()

    def let_the_lease_expire(self) -> None:
        self.freeze()
        postgres.change(postgres.in_schema(self.url, SCHEMA), "UPDATE leader SET expires_at = 0")


@pytest.fixture
def hosts(postgres_server: postgres.Server) -> Iterator[Hosts]:
    found = Hosts(postgres_server.new_database())
    yield found
    for leader in found.leaders:
        leader.close()


def test_one_process_leads_until_it_closes(hosts: Hosts) -> None:
    first = hosts.elect("pub1")

    assert hosts.try_to_lead("pub2") is None
    first.close()
    second = hosts.elect("pub2")
    assert second.term == first.term + 1


def test_a_process_that_was_started_again_follows_itself_at_once(hosts: Hosts) -> None:
    first = hosts.elect("pub1")

    assert hosts.try_to_lead("pub1", sole=False) is None
    second = hosts.elect("pub1")
    assert second.term == first.term + 1


def test_the_sessions_of_a_leader_whose_lease_expired_are_ended(hosts: Hosts) -> None:
    frozen = hosts.elect("pub1")
    with hosts.catalog(frozen) as catalog:
        catalog.connection.execute(sa.text("UPDATE total SET number = 99"))
        hosts.let_the_lease_expire()
        leader = hosts.elect("pub2")

        with pytest.raises((Unreachable, *UNAVAILABLE)):
            catalog.commit()
    with hosts.catalog(leader) as catalog:
        numbers = catalog.connection.scalars(sa.text("SELECT DISTINCT number FROM total"))
        assert numbers.all() == [0]


def test_a_former_leader_with_a_new_session_commits_nothing(hosts: Hosts) -> None:
    frozen = hosts.elect("pub1")
    hosts.let_the_lease_expire()
    hosts.elect("pub2")

    with hosts.catalog(frozen) as catalog:
        catalog.connection.execute(sa.text("UPDATE total SET number = 99"))
        with pytest.raises(Deposed, match="another publisher was elected"):
            catalog.commit()


def test_a_leader_renews_its_lease_while_a_transaction_has_its_row(hosts: Hosts) -> None:
    leader = hosts.elect("pub1")
    with hosts.catalog(leader) as catalog:
        leader.check_row(catalog.connection)
        with postgres.changing(postgres.in_schema(hosts.url, SCHEMA)) as other:
            other.execute(sa.text("SET LOCAL lock_timeout = 1000"))
            # What the renewal does; the statement of a candidate would wait.
            other.execute(sa.text("UPDATE leader SET expires_at = expires_at + 1"))
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                other.execute(sa.text("SELECT 1 FROM leader WHERE task = 'filing' FOR UPDATE"))


def test_a_former_leader_neither_renews_nor_ends_the_lease_of_the_next(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "RENEW_SECONDS", 0.05)
    former, url = hosts.elect("pub1"), postgres.in_schema(hosts.url, SCHEMA)
    following = "SET term = term + 1, holder = 'next', expires_at = 4102444800000"
    postgres.change(url, f"UPDATE leader {following} WHERE task = 'filing'")

    until(lambda: former._lease.has_ended, "it finds out")
    former.close()

    with pytest.raises(Deposed, match="another publisher was elected"):
        former.check()
    query = "SELECT expires_at FROM leader WHERE task = 'filing'"
    with postgres.changing(url) as connection:
        assert connection.scalar(sa.text(query)) == 4102444800000


def test_a_candidate_that_was_overtaken_while_it_looked_does_not_lead(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.in_schema(hosts.url, SCHEMA)

    def overtaken(*_: object, **__: object) -> bool:
        postgres.change(url, "UPDATE leader SET term = term + 1 WHERE task = 'filing'")
        return True

    monkeypatch.setattr(leader_module, "may_follow", overtaken)

    assert hosts.try_to_lead("pub1") is None


def test_a_candidate_does_not_lead_while_a_session_has_the_lock_of_the_task(hosts: Hosts) -> None:
    key = f"{leader_module._LOCK}, {leader_module._TASKS[FILING]}"
    with postgres.changing(postgres.in_schema(hosts.url, SCHEMA)) as other:
        other.execute(sa.text(f"SELECT pg_advisory_xact_lock({key})"))
        assert hosts.try_to_lead("pub1") is None

    hosts.elect("pub1")


def test_a_candidate_knows_when_to_try_again(hosts: Hosts) -> None:
    hosts.elect("pub1")
    url = postgres.in_schema(hosts.url, SCHEMA)
    with postgres.changing(url) as connection:
        assert 0 < Candidate(url, FILING, "pub2", sole=True).seconds_left(connection) <= 6
        assert Candidate(url, FILING, "pub1", sole=True).seconds_left(connection) == 0

    hosts.let_the_lease_expire()
    with postgres.changing(url) as connection:
        assert Candidate(url, FILING, "pub2", sole=True).seconds_left(connection) == 0


def test_a_candidate_waits_until_it_leads_or_must_stop(hosts: Hosts) -> None:
    first = hosts.elect("pub1")
    candidate = Candidate(postgres.in_schema(hosts.url, SCHEMA), FILING, "pub2", sole=True)
    waited: list[float] = []

    def until_the_second_wait(seconds: float) -> bool:
        waited.append(seconds)
        if len(waited) == 2:
            first.close()
        return False

    assert candidate.wait_to_lead(lambda seconds: True, lambda: None) is None
    leader = candidate.wait_to_lead(until_the_second_wait, lambda: None)

    assert leader is not None and leader.term == first.term + 1
    assert waited == [1.0, 1.0]
    leader.close()


def test_a_lease_that_is_not_renewed_ends_also_if_the_clock_of_the_server_was_set_back(
    hosts: Hosts,
) -> None:
    now, url = 100.0, postgres.in_schema(hosts.url, SCHEMA)
    tomorrow = "SET host = 'pub1', holder = 'dead', expires_at = 4102444800000"
    postgres.change(url, f"UPDATE leader {tomorrow} WHERE task = 'filing'")
    candidate = Candidate(url, FILING, "pub2", sole=True, monotonic=lambda: now)
    assert candidate.try_to_lead() is None
    now += 5.9
    assert candidate.try_to_lead() is None
    postgres.change(url, "UPDATE leader SET expires_at = expires_at + 1")  # it was renewed
    now += 0.1
    assert candidate.try_to_lead() is None
    now += 5.9
    assert candidate.try_to_lead() is None
    now += 0.2

    leader = candidate.try_to_lead()

    assert leader is not None
    hosts.leaders.append(leader)


@pytest.mark.hosts
def test_no_leader_builds_on_a_commit_that_the_replica_lacks(
    postgres_server: postgres.Server,
) -> None:
    with postgres.running_pair(postgres_server) as pair:
        migrate(pair.url)
        hosts = Hosts(pair.url)
        frozen = hosts.elect("pub1")
        hosts.freeze()
        with hosts.catalog(frozen) as catalog, ThreadPoolExecutor(2) as threads:
            catalog.connection.execute(sa.text("UPDATE total SET number = 99"))
            with pair.replica.paused():
                committing = threads.submit(catalog.commit)
                until(lambda: is_waiting(pair.url), "the commit waits for the replica")
                with postgres.changing(postgres.in_schema(pair.url, SCHEMA)) as connection:
                    connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
                    connection.execute(sa.text("UPDATE leader SET expires_at = 0"))
                electing = threads.submit(hosts.elect, "pub2")
                # Its session was ended, so PostgreSQL shows what the replica does not have.
                until(lambda: numbers(pair.url) == [99], "the commit is seen")
                until(lambda: is_waiting(pair.url), "the election waits for the replica")
                assert not electing.done()
            with pytest.raises((Unreachable, *UNAVAILABLE)):
                committing.result(30)
            leader = electing.result(30)
            pair.kill_primary()
            pair.promote()
            assert numbers(pair.url) == [99] and leader.term == frozen.term + 1
            for one in hosts.leaders:
                one.close()


def migrate(url: sa.URL) -> None:
    for schema in migrations.SCHEMAS:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            migrations.migrate(connection, schema, "2023-05-14T00:00:00+00:00")
    Catalog(postgres.in_schema(url, "catalog")).close()


def numbers(url: sa.URL) -> list[int]:
    with postgres.changing(url) as connection:
        return [*connection.scalars(sa.text("SELECT DISTINCT number FROM catalog.total"))]


def is_waiting(url: sa.URL) -> bool:
    """Return whether a commit of a leader waits for the replica; its renewals wait as well."""
    of_leaders = "query = 'COMMIT' AND application_name LIKE 'ssps filing%'"
    query = f"SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND {of_leaders}"
    with postgres.changing(url) as connection:
        return bool(connection.scalar(sa.text(query)))
