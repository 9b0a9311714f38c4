"""What tests look for after a lab: they neither miss what is left nor see what is not."""

import leftovers


def test_what_is_waited_for_is_asked_once_a_turn():
    """An answer that was true ends the wait; the next is not asked for."""
    answers = iter([False, True, False])
    assert leftovers.wait_for(lambda: next(answers))


def test_a_process_that_is_not_seen_for_a_moment_is_not_gone(monkeypatch):
    """It starts a program just then; three looks in a row have to see nothing."""
    looks = iter([[1], [], [1], [], [], []])
    monkeypatch.setattr(leftovers, "processes_of", lambda tag: next(looks))
    assert leftovers.left_behind("TAG") == []
    assert not list(looks)
    monkeypatch.setattr(leftovers, "processes_of", lambda tag: [1])
    assert leftovers.left_behind("TAG", 0.05)
