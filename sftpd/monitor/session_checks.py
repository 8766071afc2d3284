"""Looks after the sessions that are connected: ends those that may not go on, and publishes them.

The server calls these tasks periodically. A session ends if settings or keys no longer allow it, if
an operator ended it, if several gateways together have admitted too many of its party, or if it
hangs before its login.
"""

import time
from collections import defaultdict
from datetime import UTC, timedelta

import structlog

from config import times
from config.settings import Settings
from keys.operations import live_sessions
from keys.operations.live_sessions import EndedSessions, LiveSession, SessionsFile
from sftpd.access import gateways
from sftpd.access.gateways import Gateways, GatewaySession
from sftpd.access.revalidate import Revalidator
from sftpd.monitor.children import Children
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import Monitor

_END_TIMEOUT = 0.3  # seconds from SIGTERM to SIGKILL, for a session that may not go on
_STUCK_AFTER = 2.0  # seconds after the grace time: a child without a login must then be stuck

_log = structlog.get_logger()


class SessionChecks:
    """The periodic tasks about the live sessions of one server."""

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        children: Children,
        monitor: Monitor,
        revalidator: Revalidator,
        other_gateways: Gateways | None,
    ) -> None:
        self._host = settings.host
        self._loop = loop
        self._children = children
        self._monitor = monitor
        self._revalidator = revalidator
        self._gateways = other_gateways
        self._sessions_file = SessionsFile(settings.site, host=settings.host)
        self._ended = EndedSessions(settings.site, settings.host)
        self._since: dict[int, str] = {}  # when each live session began
        self._admitted: dict[int, float] = {}  # when each session was told to the other gateways

    def end_revoked_sessions(self) -> None:
        """End the sessions that settings, keys or an operator no longer allow."""
        ended = self._ended.numbers()
        for child in self._children:
            state = child.state
            if state.party is None or state.termination_reason is not None:
                continue
            reason = self._revalidator.reason_to_end(
                state.party, state.credential, state.address, state.rehearsal, state.settings
            )
            if reason is None and state.session in ended:
                reason = live_sessions.REASON
            if reason is not None:
                _log.info("session-ended", session=state.session, party=state.party, cause=reason)
                self._children.terminate(child, reason, _END_TIMEOUT)

    def end_stuck_logins(self, grace: float) -> None:
        """End the children that should have logged in `grace` seconds after their start."""
        # A child ends by itself after the grace time, unless a call in it never returns.
        latest = self._loop.time() - grace - _STUCK_AFTER
        for child in self._children:
            state = child.state
            if state.party is None and state.termination_reason is None and state.started < latest:
                _log.error("login-stuck", session=state.session)
                self._children.terminate(child, "no login in time", _END_TIMEOUT)

    def exchange_with_gateways(self) -> None:
        """Tell the other gateways what this one counts, and apply what they tell."""
        if self._gateways is None:
            return
        own: defaultdict[str, list[GatewaySession]] = defaultdict(list)
        live = {c.state.session: c for c in self._children if c.state.party is not None}
        now = round(time.time(), 3)
        self._admitted = {number: self._admitted.get(number, now) for number in live}
        for number, since in self._admitted.items():
            state = live[number].state
            own[state.who].append(GatewaySession(since, number, bool(state.open_files)))
        self._gateways.exchange(own)
        self._monitor.elsewhere = self._gateways.elsewhere
        self._children.shares = self._gateways.shares
        for party in own:
            for number in self._gateways.too_many(party, self._monitor.max_sessions_per_party):
                if live[number].state.termination_reason is None:
                    reason = gateways.REASON
                    _log.info("session-ended", session=number, party=party, cause=reason)
                    self._children.terminate(live[number], reason, _END_TIMEOUT)

    def update_sessions_file(self) -> None:
        """Write who is connected now, for `ssps party sessions` and the staff site."""
        now, loop_now = self._revalidator.now().astimezone(UTC), self._loop.time()
        live = [s for s in self._children.states() if s.party is not None and not s.ended]
        for state in live:
            began = now - timedelta(seconds=loop_now - state.started)
            self._since.setdefault(state.session, times.format_time(began))
        numbers = {state.session for state in live}
        self._since = {n: since for n, since in self._since.items() if n in numbers}
        self._sessions_file.update(
            [
                LiveSession(
                    state.session,
                    state.who,
                    state.origin,
                    state.exchange.client if state.exchange else "",
                    self._since[state.session],
                    state.rehearsal,
                    state.files,
                    state.bytes_sent,
                    len(state.open_files),
                    host=self._host,
                )
                for state in live
            ]
        )
