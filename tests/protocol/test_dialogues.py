"""Every dialogue file is played against the cores, in the client's writes and octet by octet."""

from __future__ import annotations

import socket
from threading import Thread

import pytest
from dialogue import (
    FOLDER,
    Dialogue,
    DialogueError,
    all_dialogues,
    matches,
    parse_dialogue,
    play,
    read_dialogue,
    run_live,
    unescape,
)
from dialogue_core import Pop3Driver, SmtpDriver, core_driver

DIALOGUES = all_dialogues()
PLAIN = [dialogue for dialogue in DIALOGUES if dialogue.settings["tls"] == "no"]


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
@pytest.mark.parametrize("chunk", [0, 1, 7], ids=["whole groups", "single octets", "seven octets"])
def test_the_core_says_what_the_dialogue_says(dialogue: Dialogue, chunk: int) -> None:
    driver = core_driver(dialogue, chunk)
    play(dialogue, driver)
    assert driver.said.unread == b""


def serve(sock: socket.socket, driver: SmtpDriver | Pop3Driver) -> None:
    """A session loop as small as can be."""
    with sock:
        while True:
            sock.sendall(driver.said.take())
            if driver.is_closed or not (data := sock.recv(65536)):
                return
            driver.send(data)


@pytest.mark.parametrize("dialogue", PLAIN, ids=lambda dialogue: dialogue.name)
def test_the_live_runner_hears_the_same_through_a_socket(dialogue: Dialogue) -> None:
    ours, theirs = socket.socketpair()
    server = Thread(target=serve, args=(theirs, core_driver(dialogue)))
    server.start()
    try:
        run_live(lambda: ours, dialogue)
    finally:
        server.join()


def test_a_live_server_that_says_something_else_is_reported() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"220 mail.example.org\r\n554 no\r\n")
        with pytest.raises(DialogueError, match="mini:2: expected '250 yes', the server said '554 no'"):
            run_live(lambda: ours, parse_dialogue("mini", "S: 220*\nS: 250 yes"))


def test_a_handshake_needs_a_context() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(DialogueError, match="needs a tls_context"):
        run_live(lambda: ours, parse_dialogue("mini", "== TLS"))


def test_a_dialogue_is_named_by_its_file() -> None:
    assert read_dialogue(FOLDER / "smtp" / "helo.dialogue").name == "smtp/helo.dialogue"


def test_there_are_dialogues_for_both_protocols() -> None:
    services = {dialogue.settings["service"] for dialogue in DIALOGUES}
    assert {"smtp", "submission", "pop3"} <= services


def mini(text: str) -> None:
    dialogue = parse_dialogue("mini", text)
    play(dialogue, core_driver(dialogue))


def test_a_wrong_reply_is_reported_with_file_and_line() -> None:
    with pytest.raises(DialogueError, match=r"mini:3: expected '250 2\.0\.0 Ok', the server said '503 5\.5\.1"):
        mini("S: 220*\nC: MAIL FROM:<>\nS: 250 2.0.0 Ok")


def test_silence_is_reported() -> None:
    with pytest.raises(DialogueError, match="mini:2: the server said nothing"):
        mini("S: 220*\nS: 250 what")


def test_a_close_that_was_not_expected_is_reported() -> None:
    with pytest.raises(DialogueError, match="mini:4: the server closed"):
        mini("S: 220*\nC: QUIT\nS: 221*\nS: 250 more")


def test_a_close_that_does_not_come_is_reported() -> None:
    with pytest.raises(DialogueError, match=r"should have closed, but said b'250"):
        mini("S: 220*\nC: NOOP\n== CLOSED")


def test_a_reply_of_another_kind_does_not_pass_for_a_whole_reply() -> None:
    with pytest.raises(DialogueError, match="expected '250' to begin a reply"):
        mini("S: 220*\nC: EHLO\nS: 250 **")


def test_a_file_with_an_unknown_mark_or_setting_is_refused() -> None:
    with pytest.raises(DialogueError, match="x:1: neither"):
        parse_dialogue("x", "D: what")
    with pytest.raises(DialogueError, match="x:1: no such setting"):
        parse_dialogue("x", "@ colour: blue")


def test_escapes_are_those_of_c_and_a_repetition() -> None:
    assert unescape(r"a\x00\r\n\t\\\0{z*3}ü") == b"a\0\r\n\t\\\0zzz\xc3\xbc"


def test_a_star_at_the_end_stands_for_the_rest_of_the_line() -> None:
    assert matches("250 *", "250 Ok")
    assert not matches("250 *", "250-Ok")
    assert not matches("250 O", "250 Ok")
