import os
from collections.abc import Callable
from pathlib import Path

import confined
import pytest

from keys.kernel import capabilities, user_namespace

_SETFCAP = 31


def limit_to_what_a_user_has() -> None:
    """Give up what would make a namespace unnecessary.

    The kernel lets user 0 keep its number in a namespace only with CAP_SETFCAP.
    """
    if os.geteuid() == 0:
        capabilities.limit_to(_SETFCAP)


def in_child(action: Callable[[], object]) -> str:
    """Return what `action` returns in a process of its own, without privileges."""
    [found] = confined.answers(limit_to_what_a_user_has, action)
    return found


def may_change_root() -> bool:
    try:
        os.chroot("/")
    except PermissionError:
        return False
    return True


needs_namespaces = pytest.mark.skipif(
    not user_namespace.lets_change_root(), reason="this machine refuses user namespaces"
)


@needs_namespaces
def test_in_a_namespace_a_process_may_change_its_root_directory_and_nothing_else() -> None:
    def action() -> object:
        user, before = (os.getresuid(), os.getresgid()), may_change_root()
        user_namespace.enter()
        line = Path("/proc/self/status").read_text().partition("CapPrm:")[2].split()[0]
        same = user == (os.getresuid(), os.getresgid())
        return before, may_change_root(), same, int(line, 16) == 1 << capabilities.SYS_CHROOT

    assert in_child(action) == "(False, True, True, True)"


@needs_namespaces
def test_asking_whether_it_may_changes_nothing() -> None:
    assert in_child(lambda: (user_namespace.lets_change_root(), may_change_root())) == (
        "(True, False)"
    )


def test_a_machine_that_refuses_namespaces_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_namespace, "_CLONE_NEWUSER", 1 << 8)  # unshare(2) refuses this
    assert not user_namespace.lets_change_root()
